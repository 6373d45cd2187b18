"""Where sandboxes run. Each implements `core.backend.Backend`; none knows sessions or tenants."""
