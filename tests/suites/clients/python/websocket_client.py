"""A WebSocket client: SCENARIO URI CERTIFICATE. Prints what it saw as lines of JSON.

The connection goes to the loopback, whatever the host in the URI.
"""

import asyncio
import json
import random
import ssl
import sys
from urllib.parse import urlsplit

from installed import package

websockets = package("websockets", "python3-websockets")

URI = sys.argv[2]
# For whatever takes its time on a busy machine.
PATIENCE = 30


def connect(**more):
    url = urlsplit(URI)
    if url.scheme == "wss":
        more["ssl"] = ssl.create_default_context(cafile=sys.argv[3])
        more["server_hostname"] = url.hostname
    return websockets.connect(
        URI, host="127.0.0.1", port=url.port, max_size=None, open_timeout=PATIENCE, ping_interval=None, **more
    )


async def echo_of(connection, message):
    await connection.send(message)
    return await asyncio.wait_for(connection.recv(), PATIENCE)


async def echo():
    """Messages of every kind and size come back as they were; lists are sent as one in fragments."""
    messages = ["text \u00fc", b"\x00\xff", "", "a" * 125, "b" * 126, bytes(range(256)) * 257, ["frag", "", "ments"]]
    async with connect(subprotocols=["chat.test"]) as connection:
        same = 0
        for message in messages:
            whole = "".join(message) if isinstance(message, list) else message
            same += await echo_of(connection, message) == whole
        headers = json.loads(await echo_of(connection, "headers"))
        report = {"sent": len(messages), "same": same, "subprotocol": connection.subprotocol, "headers": headers}
        report["extensions"] = [extension.name for extension in connection.extensions]
    print(json.dumps(report))


async def large():
    """1 MiB that nothing can compress away."""
    message = random.Random(7).randbytes(1 << 20)
    async with connect(compression=None) as connection:
        print(json.dumps({"same": await echo_of(connection, message) == message}))


async def ping():
    async with connect() as connection:
        for payload in (b"", b"payload", b"x" * 125):
            pong = await connection.ping(payload)
            await asyncio.wait_for(pong, PATIENCE)
        print(json.dumps({"pongs": 3}))


async def closed_by_server():
    async with connect() as connection:
        await connection.send("close 4001 had enough")
        await asyncio.wait_for(connection.wait_closed(), PATIENCE)
        print(json.dumps({"code": connection.close_code, "reason": connection.close_reason}))


async def closed_by_client():
    async with connect() as connection:
        await connection.close(4002, "leaving")
        print(json.dumps({"code": connection.close_code, "reason": connection.close_reason}))


async def crowd():
    """Fifty connections, all open at the same time."""
    async def one(number, everyone):
        async with connect() as connection:
            await everyone.enter()
            same = 0
            for turn in range(20):
                message = f"{number} {turn} " + "x" * (number * 100)
                same += await echo_of(connection, message) == message
            return same

    class Barrier:
        def __init__(self, count):
            self.missing, self.complete = count, asyncio.Event()

        async def enter(self):
            self.missing -= 1
            if self.missing == 0:
                self.complete.set()
            await asyncio.wait_for(self.complete.wait(), PATIENCE)

    everyone = Barrier(50)
    same = await asyncio.gather(*(one(number, everyone) for number in range(50)))
    print(json.dumps({"same": sum(same)}))


async def stay():
    """Sends every line of standard input and prints what comes back."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with connect() as connection:
        print(json.dumps({"open": True}), flush=True)
        while line := (await reader.readline()).decode().strip():
            print(json.dumps({"line": line, "answer": await echo_of(connection, line)}), flush=True)


async def refused():
    try:
        async with connect():
            print(json.dumps({"status": 101}))
    except websockets.InvalidStatusCode as error:
        print(json.dumps({"status": error.status_code, "reason": error.headers["x-sluice-reason"]}))


SCENARIOS = [echo, large, ping, closed_by_server, closed_by_client, crowd, stay, refused]
asyncio.run({scenario.__name__: scenario for scenario in SCENARIOS}[sys.argv[1]]())
