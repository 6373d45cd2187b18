"""The public gRPC service. Translates between messages and `core`; decides nothing."""
