"""An app: says its version and its instance, and what it was asked for."""

import http.server
import os
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/slow"):
            time.sleep(float(self.path.rpartition("=")[2]))
        version, instance = os.environ["SLUICE_VERSION"], os.environ["SLUICE_INSTANCE"]
        body = f"{version} {instance}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.path != "/_ping":
            print(f"answered {self.path}", flush=True)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


print(f"listening, {' '.join(sys.argv[1:])}", flush=True)
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
