"""The daemon inside a sandbox: gRPC server, policy check, supervision of the worker.

PID 1 of the sandbox. It computes outcome, state and usage; it never runs tenant
code and never decodes a tenant's value. The control plane trusts it no further
than the sandbox it sits in.
"""
