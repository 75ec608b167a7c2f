"""A gRPC server with bytes for messages, so that no generated code is needed.

Prints "listening PORT", then a line of JSON for each thing that only the server can see.
"""

import json
import sys
import threading
from concurrent import futures

from installed import package

grpc = package("grpc", "python3-grpcio")

# grpc.health.v1.HealthCheckResponse { status: SERVING }; its only field is number 1, a varint.
SERVING = b"\x08\x01"
NOT_SERVING = b"\x08\x02"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def say(**event):
    print(json.dumps(event), flush=True)


def unary(request, context):
    """Sends the caller's metadata back: x- in the head, y- in the trailers."""
    given = context.invocation_metadata()
    context.send_initial_metadata([(key, value) for key, value in given if key.startswith("x-")])
    context.set_trailing_metadata([(key, value) for key, value in given if key.startswith("y-")])
    return request


def server_stream(request, _context):
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests, _context):
    sizes = [len(request) for request in requests]
    return json.dumps({"messages": len(sizes), "bytes": sum(sizes)}).encode()


def bidi(requests, _context):
    yield from requests


def wait(request, context):
    """Says one word and no more. Reports what was left of the call's deadline, and that it has ended."""
    name, ended = request.decode(), threading.Event()

    def end():
        # Here and not below: nobody comes back to a generator whose call is over.
        say(call=name, event="ended")
        ended.set()

    context.add_callback(end)
    say(call=name, event="begun", left=context.time_remaining())
    yield b"begun"
    ended.wait(30)


def fail(_request, context):
    context.set_trailing_metadata([("grpc-status-details-bin", b"\x08\x05details"), ("y-after", "all")])
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not like this: 100 % \u00fc\n")


def fail_late(_request, context):
    yield b"first"
    context.abort(grpc.StatusCode.DATA_LOSS, "after the first message")


def health(request, context):
    """Field 1 of the request is the service's name; "" asks for the server as a whole."""
    if request == b"\x0a\x09test.Down":
        return NOT_SERVING
    if request not in (b"", b"\x0a\x09test.Echo"):
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return SERVING


def watch(request, context):
    yield health(request, context)


def handlers():
    echo = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
        "Wait": grpc.unary_stream_rpc_method_handler(wait),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
    }
    checks = {
        "Check": grpc.unary_unary_rpc_method_handler(health),
        "Watch": grpc.unary_stream_rpc_method_handler(watch),
    }
    generic = grpc.method_handlers_generic_handler
    served = [generic("test.Echo", echo)]
    # Whoever asks this one for its health hears UNIMPLEMENTED.
    if "without-health" not in sys.argv[1:]:
        served.append(generic("grpc.health.v1.Health", checks))
    return served


server = grpc.server(futures.ThreadPoolExecutor(32), handlers=handlers(), options=UNLIMITED)
print("listening", server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
