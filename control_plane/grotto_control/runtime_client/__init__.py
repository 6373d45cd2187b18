"""The client of the daemon in a sandbox. Owns the hop from control plane to sandbox.

Everything that comes back is hostile: lengths are capped, enums checked, text
escaped, and reasons only the control plane may give are not taken from a daemon.
"""
