"""Binds the behaviours to the service's descriptor: a method without one fails at start."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from grotto_control.rpc.guard import Guard
from grotto_control.rpc.service import SessionsService
from grotto_proto.v1 import sessions_pb2

DESCRIPTOR = sessions_pb2.DESCRIPTOR.services_by_name["Sessions"]

RAW_REQUESTS = frozenset({"PutValue", "UploadFile"})
RAW_REPLIES = frozenset({"GetValue", "DownloadFile"})
"""Their messages are not decoded here: chunks pass without being copied."""


def sessions_handler(service: SessionsService, guard: Guard) -> grpc.GenericRpcHandler:
    """Returns what `grpc.aio.Server.add_generic_rpc_handlers` takes."""
    handlers = {
        method.name: _handler(method, getattr(service, method.name), guard)
        for method in DESCRIPTOR.methods
    }
    return grpc.method_handlers_generic_handler(DESCRIPTOR.full_name, handlers)


def _handler(
    method: MethodDescriptor, behaviour: Callable[..., Any], guard: Guard
) -> "grpc.RpcMethodHandler[Any, Any]":
    read = None if method.name in RAW_REQUESTS else GetMessageClass(method.input_type).FromString
    is_raw_reply = method.name in RAW_REPLIES
    write = None if is_raw_reply else GetMessageClass(method.output_type).SerializeToString
    is_transfer = method.name in RAW_REQUESTS | RAW_REPLIES
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            guard.stream(method.name, is_transfer, behaviour), read, write
        )
    make = (
        grpc.stream_unary_rpc_method_handler
        if method.client_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(guard.reply(method.name, is_transfer, behaviour), read, write)
