"""An app that falls ill when told to: `ill.INSTANCE` beside it names a path and what happens there, `500` or `hang`."""

import http.server
import os
import time

INSTANCE = os.environ["SLUICE_INSTANCE"]


def illness(path):
    try:
        with open(f"ill.{INSTANCE}") as file:
            where, how = file.read().split()
    except (FileNotFoundError, ValueError):
        return None
    return how if where == path else None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        how = illness(self.path)
        if how == "hang":
            time.sleep(600)
        body = f"{INSTANCE}\n".encode()
        self.send_response(500 if how else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
