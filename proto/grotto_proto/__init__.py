"""The gRPC contract: .proto files, their generated stubs, and the metadata keys.

Owns what both ends of every RPC agree on. Imports nothing else of the project.
"""

WIRE_VERSION = 1
"""Raised when an old client or sandbox could no longer be understood."""
