"""A verifier behind HTTP, in Python's standard library: an answer is right if its last number is the truth.

    python3 examples/http_verifier.py 8000

    [verifier.define.numbers]
    kind = "http"
    url = "http://127.0.0.1:8000/"
"""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def judge(item):
    truth, numbers = float(item["answer"]), re.findall(r"-?\d+(?:\.\d+)?", item["response"])
    right = bool(numbers) and float(numbers[-1]) == truth
    return {"id": item["id"], "verdict": "correct" if right else "incorrect"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # Connections stay open,
    wbufsize = -1  # and a reply leaves in one piece.

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = json.dumps({"items": [judge(item) for item in request["items"]]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_request(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
