"""A gRPC client: SCENARIO PORT AUTHORITY [CERTIFICATE]. Prints what it saw as one line of JSON.

With a certificate the channel is TLS; without one it is HTTP/2 with prior knowledge.
"""

import base64
import json
import queue
import random
import sys
import time

from installed import package

grpc = package("grpc", "python3-grpcio")

PORT, AUTHORITY = sys.argv[2:4]
# For whatever takes its time on a busy machine.
PATIENCE = 30


def channel():
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # What fails is to be seen, not repeated.
        ("grpc.enable_retries", 0),
    ]
    target = f"127.0.0.1:{PORT}"
    if len(sys.argv) == 4:
        return grpc.insecure_channel(target, options + [("grpc.default_authority", AUTHORITY)])
    with open(sys.argv[4], "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    return grpc.secure_channel(target, credentials, options + [("grpc.ssl_target_name_override", AUTHORITY)])


def text(metadata):
    def one(value):
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value

    return {key: one(value) for key, value in metadata or ()}


def outcome(error):
    return {"code": error.code().name, "details": error.details(), "trailing": text(error.trailing_metadata())}


def unary(calls):
    call = calls.unary_unary("/test.Echo/Unary")
    metadata = [("x-a", "1"), ("x-b-bin", bytes(range(255))), ("y-c", "3"), ("y-d-bin", b"\xff\x00")]
    reply, seen = call.with_call(b"hello", metadata=metadata, timeout=PATIENCE)
    head, trailing = text(seen.initial_metadata()), text(seen.trailing_metadata())
    return {"reply": reply.decode(), "code": seen.code().name, "head": head, "trailing": trailing}


def empty(calls):
    return {"reply": calls.unary_unary("/test.Echo/Unary")(b"", timeout=PATIENCE).decode()}


def server_stream(calls):
    messages = calls.unary_stream("/test.Echo/ServerStream")(b"2000", timeout=PATIENCE)
    return {"same": [int(message) for message in messages] == list(range(2000))}


def client_stream(calls):
    messages = (b"x" * number for number in range(2000))
    return json.loads(calls.stream_unary("/test.Echo/ClientStream")(messages, timeout=PATIENCE))


def bidi(calls):
    """A message is sent when the one before it has come back."""
    turns = queue.Queue()
    replies = calls.stream_stream("/test.Echo/Bidi")(iter(turns.get, None), timeout=PATIENCE)
    same = 0
    for number in range(1000):
        message = b"%d" % number
        turns.put(message)
        same += next(replies) == message
    turns.put(None)
    return {"same": same, "rest": len(list(replies)), "code": replies.code().name}


def stay(calls):
    """Sends every line of standard input as a message of one call and prints what comes back."""

    def until_end():
        for line in iter(sys.stdin.readline, "end\n"):
            yield line.strip().encode()

    replies = calls.stream_stream("/test.Echo/Bidi")(until_end(), timeout=2 * PATIENCE)
    for reply in replies:
        print(reply.decode(), flush=True)
    return {"code": replies.code().name}


def large(calls):
    message = random.Random(7).randbytes(4 << 20)
    return {"same": calls.unary_unary("/test.Echo/Unary")(message, timeout=PATIENCE) == message}


def many(calls):
    call = calls.unary_unary("/test.Echo/Unary")
    waiting = [(number, call.future(b"%d" % number, timeout=PATIENCE)) for number in range(300)]
    return {"same": sum(reply.result() == b"%d" % number for number, reply in waiting)}


def deadline(calls):
    began = time.monotonic()
    call = calls.unary_stream("/test.Echo/Wait")(b"deadline", timeout=2)
    try:
        return {"messages": len(list(call))}
    except grpc.RpcError as error:
        return outcome(error) | {"seconds": time.monotonic() - began}


def cancel(calls):
    call = calls.unary_stream("/test.Echo/Wait")(b"cancel", timeout=PATIENCE)
    # Comes when the server has the call.
    first = next(call).decode()
    return {"first": first, "cancelled": call.cancel(), "code": call.code().name}


def fail(calls):
    return outcome(calls.unary_unary("/test.Echo/Fail").future(b"", timeout=PATIENCE).exception())


def fail_late(calls):
    replies = calls.unary_stream("/test.Echo/FailLate")(b"", timeout=PATIENCE)
    first = next(replies).decode()
    try:
        next(replies)
    except grpc.RpcError as error:
        return {"first": first} | outcome(error)
    return {"first": first}


def health(calls):
    check, watch = (calls.unary_unary("/grpc.health.v1.Health/Check"), calls.unary_stream("/grpc.health.v1.Health/Watch"))
    known, unknown = b"\x0a\x09test.Echo", b"\x0a\x05other"
    return {
        "server": check(b"", timeout=PATIENCE).hex(),
        "service": check(known, timeout=PATIENCE).hex(),
        "unknown": outcome(check.future(unknown, timeout=PATIENCE).exception())["code"],
        "watched": next(watch(known, timeout=PATIENCE)).hex(),
    }


def ask(calls):
    """For errors of the gateway's own: every kind of call has to understand them."""
    unary = calls.unary_unary("/test.Echo/Unary").future(b"hello", timeout=PATIENCE)
    stream = calls.stream_stream("/test.Echo/Bidi")(iter([b"hello"]), timeout=PATIENCE)
    try:
        streamed = {"messages": len(list(stream))}
    except grpc.RpcError as error:
        streamed = outcome(error)
    return {"unary": outcome(unary.exception()) if unary.exception() else {}, "stream": streamed}


SCENARIOS = [
    unary, empty, server_stream, client_stream, bidi, stay, large, many, deadline, cancel, fail, fail_late, health, ask
]
with channel() as calls:
    print(json.dumps({scenario.__name__: scenario for scenario in SCENARIOS}[sys.argv[1]](calls)))
