"""Sandboxes as containers of a Docker engine. `backend.DockerBackend` is the way in."""
