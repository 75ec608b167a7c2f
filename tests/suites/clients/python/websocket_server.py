"""A WebSocket server named by its argument. Echoes, and does what a few messages ask for.

Prints "listening PORT", and a line of JSON for every connection that has ended.
"""

import asyncio
import json
import sys

from installed import package

websockets = package("websockets", "python3-websockets")


async def serve(connection, name):
    async for message in connection:
        if message == "who":
            await connection.send(name)
        elif message == "headers":
            await connection.send(json.dumps(dict(connection.request_headers.raw_items())))
        elif isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            await connection.close(int(code), reason)
        else:
            await connection.send(message)


async def handle(connection, name):
    try:
        await serve(connection, name)
    except websockets.ConnectionClosed:
        pass
    finally:
        print(json.dumps({"code": connection.close_code, "reason": connection.close_reason}), flush=True)


async def main():
    name = sys.argv[1]
    server = await websockets.serve(
        lambda connection: handle(connection, name),
        "127.0.0.1",
        0,
        max_size=None,
        subprotocols=["chat.test"],
        ping_interval=None,
    )
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()


asyncio.run(main())
