"""A small service between the control plane and the engine's socket.

Whoever may talk to an engine is root on its host. The proxy holds that socket in place of
the control plane, and passes on nothing but the calls of the Docker backend, each rebuilt
from values it has checked: no byte of a request reaches the engine as it came.
"""
