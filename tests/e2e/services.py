"""Services for retrieval, small and deterministic: a vector says which of a few notions a text has, a score how many words."""

import http.server
import json
import threading
from contextlib import contextmanager

NOTIONS = [{"car", "automobile", "motorcar"}, {"boat", "ship", "vessel"}, {"bread", "loaf", "bun"}, {"king", "monarch"}]


def words(text):
    return [w.strip(".,?!").lower() for w in text.split()]


def vector(text, dimension=8):
    found = [0.01] * dimension
    for word in words(text):
        for i, notion in enumerate(NOTIONS):
            found[i] += word in notion
    return found


class Service:
    """A server of /v1/embeddings and /v1/rerank. `mode`: ok, error, hang, garbage; `dimension` of its vectors."""

    def __init__(self):
        self.mode, self.dimension, self.fail_after = "ok", 8, None
        self.calls, self.texts, self.keys = [], 0, set()
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.calls.append(self.path)
                service.keys.add(self.headers.get("Authorization"))
                mode = service.mode
                if service.fail_after is not None and service.texts >= service.fail_after:
                    mode = "error"
                if mode == "hang":
                    service.released.wait(30)
                    self.close_connection = True
                    return
                if mode == "error":
                    return self.answer(503, {"error": {"message": "overloaded"}})
                if mode == "garbage":
                    return self.answer(200, {"data": "none"})
                if self.path.endswith("/embeddings"):
                    service.texts += len(asked["input"])
                    rows = [{"index": i, "embedding": vector(t, service.dimension)} for i, t in enumerate(asked["input"])]
                    return self.answer(200, {"data": rows[::-1], "model": asked.get("model")})
                wanted = set(words(asked["query"]))
                rows = [{"index": i, "relevance_score": sum(w in wanted for w in words(t)) - i / 1000}
                        for i, t in enumerate(asked["documents"])]
                self.answer(200, {"results": sorted(rows, key=lambda r: -r["relevance_score"])})

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.released = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def service():
    one = Service()
    try:
        yield one
    finally:
        one.close()
