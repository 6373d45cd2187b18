"""The process that runs tenant code: zygote, live worker, frozen copies.

Owns the interpreter and its namespace. Knows nothing of gRPC, tenants or
deadlines: the daemon decides what became of an execution, this process only
reports what the interpreter saw.
"""
