"""A scripted OpenAI-compatible backend: it streams, stalls, resets and lies on demand, and writes down what
it was sent.

It speaks chat completions, legacy completions and embeddings, by the request's path. The scenario is the request's model when that is the name of one, else a word @NAME in the last user message,
else `normal`. As a module: `with Backend() as b: ... b.url ... b.log()`. As a script: `backend.py [PORT]`
prints `ready http://127.0.0.1:PORT/v1` and serves until its standard input closes.

GET /__log gives a JSON list, one object for each request: id, method, path, headers, body (base64), model,
scenario, opened, ended (who closed first: "client", "server", or null while it is open), ended_at, events.
DELETE /__log forgets them.
"""

import base64
import json
import re
import select
import socket
import struct
import sys
import threading
import time

KEEP = object()  # a scenario's way to say: leave the connection open for another request
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Gone(Exception):
    """The client has closed."""


class Exchange:
    """One request on one connection, and the ways to answer it."""

    def __init__(self, backend, connection, entry, body):
        self.backend, self.connection, self.entry = backend, connection, entry
        self.legacy = entry["path"].endswith("/v1/completions")
        try:
            self.request = json.loads(body)
        except ValueError:
            self.request = {}

    def last_user(self):
        for name in ("prompt", "input"):
            if isinstance(self.request.get(name), str):
                return self.request[name]
        for message in reversed(self.request.get("messages") or []):
            if message.get("role") == "user":
                content = message.get("content")
                if isinstance(content, list):
                    content = "".join(part.get("text", "") for part in content)
                return content or ""
        return ""

    def raw(self, data):
        try:
            self.connection.sendall(data)
        except OSError as error:
            raise Gone from error

    def chunk(self, data):
        self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    def data(self, value, end=b"\n\n"):
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        self.entry["events"] += 1
        self.chunk(b"data: " + text.encode() + end)

    def delta(self, delta, finish=None, index=0, choice=None, **members):
        if self.legacy:
            self.data({"id": "c-1", "object": "text_completion", "created": 1, "model": "m", "choices": [
                {"index": index, "text": delta.get("content", ""), "logprobs": None, "finish_reason": finish,
                 **(choice or {})}], **members})
            return
        self.data({"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                   "choices": [{"index": index, "delta": delta, "finish_reason": finish, **(choice or {})}], **members})

    def head(self):
        self.raw(HEAD)

    def words(self, gap=0.0):
        self.delta({"role": "assistant", "content": ""})
        for word in answer_words(self.last_user()):
            self.delta({"content": word})
            self.sleep(gap)

    def usage(self):
        if (self.request.get("stream_options") or {}).get("include_usage"):
            self.data({"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
                       "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}})

    def done(self, marker=True):
        if marker:
            self.data("[DONE]")
        self.raw(b"0\r\n\r\n")
        return KEEP

    def sleep(self, seconds):
        """Waits, and sees the client go meanwhile."""
        until = time.monotonic() + seconds
        while not self.backend.stopping and (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], min(left, 0.1))
            if not readable:
                continue
            try:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    raise Gone
            except OSError as error:
                raise Gone from error
            return  # another request on a connection in use: nothing of ours

    def status(self, status, body, headers=""):
        text = body if isinstance(body, str) else json.dumps(body)
        self.raw(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}"
                 f"Content-Length: {len(text.encode())}\r\n\r\n{text}".encode())
        return KEEP

    def error(self, status, kind, message, code=None, headers="", param=None):
        return self.status(status, {"error": {"message": message, "type": kind, "param": param, "code": code}}, headers)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answer_words(text):
    """What every well-behaved scenario answers."""
    return re.findall(r"\S+\s*", "You said: " + text)


# ---- scenarios -------------------------------------------------------------------------------------------------


def normal(x, gap=0.0):
    x.head()
    x.words(gap)
    x.delta({}, "stop")
    x.usage()
    return x.done()


def gaps(x):
    return normal(x, 0.05)


def together(x):
    """Says one word, and the rest when as many of its kind have been asked for as the last word of the prompt says."""
    first, *rest = answer_words(x.last_user())
    x.head()
    x.delta({"content": first})
    while not x.backend.stopping and x.backend.asked("together") < int(x.last_user().split()[-1]):
        x.sleep(0.05)
    for word in rest:
        x.delta({"content": word})
    x.delta({}, "stop")
    return x.done()


def stall_before(x):
    x.sleep(600)


def stall_head(x):
    x.head()
    x.sleep(600)


def stall_after_one(x):
    x.head()
    x.delta({"role": "assistant", "content": ""})
    x.delta({"content": "O"})
    x.sleep(600)


def stall_pinging(x):
    x.head()
    for _ in range(6000):
        x.chunk(b":\n\n")
        x.sleep(0.1)


def refuse(x):
    x.reset()


def close_at_once(x):
    pass


def reset(x):
    x.head()
    x.delta({"content": "Half "})
    x.delta({"content": "an "})
    x.sleep(0.05)
    x.reset()


def cut(x):
    x.head()
    x.delta({"content": "Half "})


def garbage(x):
    x.raw(b"\x00\x01\x02 this is no HTTP at all\r\n\r\n")


def garbage_events(x):
    x.head()
    x.delta({"content": "Half "})
    x.data("{not json")
    return x.done()


def html(x):
    x.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>hi</html>")
    return KEEP


def http_400(x):
    return x.error(400, "invalid_request_error", "temperature must be at most 2", "bad_temperature", param="temperature")


def http_400_context(x):
    return x.status(400, {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}})


def http_401(x):
    key = x.entry["headers"].get("authorization", "").removeprefix("Bearer ")
    return x.error(401, "invalid_request_error", f"Incorrect API key provided: {key}", "invalid_api_key")


def http_404(x):
    return x.error(404, "invalid_request_error", "The model `m` does not exist", "model_not_found")


def http_429(x):
    return x.error(429, "rate_limit_error", "slow down", "rate_limit_exceeded", "Retry-After: 7\r\n")


def http_429_quota(x):
    return x.error(429, "insufficient_quota", "you have spent it all", "insufficient_quota")


def http_500(x):
    return x.error(500, "server_error", "boom", "engine_fell_over", param="engine")


def http_500_key(x):
    key = x.entry["headers"].get("authorization", "").removeprefix("Bearer ")
    return x.error(500, "server_error", f"crashed while checking {key}")


def http_503(x):
    return x.error(503, "overloaded_error", "Loading model", None, "retry-after-ms: 250\r\n")


def redirect(x):
    x.raw(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    return KEEP


def flaky(x):
    """Fails the first time that this text is asked, then answers."""
    seen = x.backend.seen.setdefault(x.last_user(), 0)
    x.backend.seen[x.last_user()] = seen + 1
    return http_500(x) if seen == 0 else normal(x)


def told_words(id):
    return 2 + int(id[:2], 16) % 30


def told(x):
    """An answer made from the id in the text: every word names the request, this run of it, and its place."""
    id = re.findall(r"id=([\w-]+)", x.last_user())[-1]  # documents stand before the question
    with x.backend.lock:
        runs = x.backend.runs.setdefault(id, [])
        runs.append(time.time())
        run = len(runs)
    x.sleep((0, 0, 0.02, 0.1)[int(id[2], 16) % 4])
    x.head()
    x.delta({"role": "assistant", "content": ""})
    for n in range(told_words(id)):
        x.delta({"content": f"{id[:8]}·{run}·{n} "})
        x.sleep((0, 0.002, 0.01, 0.03)[int(id[3], 16) % 4])
    x.delta({}, "stop")
    x.usage()
    return x.done()


def no_done(x):
    x.head()
    x.words()
    x.delta({}, "stop")
    return x.done(marker=False)


def no_finish(x):
    x.head()
    x.words()
    return x.done(marker=False)


def no_usage(x):
    x.head()
    x.words()
    x.delta({}, "stop")
    return x.done()


def stays_open(x):
    """Everything is said, but the response does not end."""
    x.head()
    x.words()
    x.delta({}, "stop")
    x.usage()
    x.data("[DONE]")
    x.sleep(600)


def odd_bytes(x):
    """Every byte of the events by itself, with CRLF, a mark, comments, and no blank line at the end."""
    x.head()
    events = [{"choices": [{"index": 0, "delta": {"content": w}}]} for w in answer_words(x.last_user())]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    text = "\ufeff: hello\r\n\r\n" + ":\r\n\r\n".join(
        "data: " + json.dumps(e).replace(", ", ",\r\ndata: ") + "\r\n\r\n" for e in events) + "data: [DONE]"
    for byte in text.encode():
        x.chunk(bytes([byte]))
    x.raw(b"0\r\n\r\n")
    return KEEP


def llama(x):
    """As llama.cpp writes: null content first, pings, timings on the last event."""
    x.head()
    x.delta({"role": "assistant", "content": None})
    x.chunk(b":\n\n")
    for word in answer_words(x.last_user()):
        x.delta({"content": word})
    x.delta({}, "stop", timings={"predicted_n": 3, "predicted_ms": 1.50})
    x.usage()
    return x.done()


def extras(x):
    """Members that nobody knows, at every level."""
    x.head()
    x.delta({"content": "a ", "token_id": 7}, choice={"stop_reason": None, "logprobs": {"content": []}},
            system_fingerprint="fp")
    x.delta({"content": "b"})
    x.delta({}, "stop")
    return x.done()


PROMPT_FILTER = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}]


def vendor(x):
    """As several vendors write: members of their own everywhere, null ones too, some before the first word."""
    fingerprint = {"system_fingerprint": "fp_1", "service_tier": None}
    x.head()
    x.data({"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": PROMPT_FILTER})
    x.delta({"role": "assistant", "content": "", "refusal": None}, choice={"logprobs": None}, **fingerprint)
    x.delta({"content": "a", "annotations": [], "audio": None}, choice={"logprobs": None, "native": None}, **fingerprint)
    x.delta({"tool_calls": [
        {"index": 0, "id": "call_0", "type": "function", "function": {"name": "f", "arguments": "", "strict": None},
         "extra_content": {"google": {"thought_signature": "c2ln"}}},
        {"index": 1, "id": "call_1", "type": "function", "function": {"name": "g", "arguments": "{}"},
         "thought_signature": "x"}]}, provider="here", **fingerprint)
    x.delta({"tool_calls": [{"index": 0, "function": {"arguments": "[]"}, "late": 1.50}]}, **fingerprint)
    x.delta({}, "tool_calls", choice={"content_filter_results": {}}, **fingerprint)
    x.data({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16, "cost": 0.10,
                                     "completion_tokens_details": {"reasoning_tokens": 0}}})
    return x.done()


def filtered(x):
    """Not a word, but why."""
    x.head()
    x.data({"choices": [], "prompt_filter_results": PROMPT_FILTER})
    x.delta({}, "content_filter", choice={"content_filter_results": {"hate": {"filtered": True}}})
    return x.done()


def long_name(x):
    x.head()
    x.delta({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f" * 500000, "arguments": "{}"}}]})
    x.delta({}, "tool_calls")
    return x.done()


def details(x):
    x.head()
    x.words()
    x.delta({}, "stop")
    x.data({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16,
                                     "prompt_tokens_details": {"cached_tokens": 4}}})
    return x.done()


def tools(x):
    x.head()
    x.delta({"role": "assistant", "content": None, "tool_calls": [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]})
    for piece in ('{"ci', 'ty":"', 'Paris"}'):
        x.delta({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    x.delta({}, "tool_calls")
    x.usage()
    return x.done()


def reasoning(x):
    x.head()
    x.delta({"role": "assistant", "reasoning_content": "hm, "})
    x.delta({"reasoning": "yes"})
    x.delta({"content": "42"})
    x.delta({}, "stop")
    return x.done()


def choices(x):
    x.head()
    for i, word in enumerate(["zero ", "one ", "zero", "one"]):
        x.delta({"content": word}, index=i % 2)
    x.delta({}, "stop", index=1)
    x.delta({}, "length", index=0)
    return x.done()


def error_first(x):
    x.head()
    x.data({"error": {"message": "busy", "type": "overloaded_error", "code": 503}})
    return x.done()


def error_middle(x):
    x.head()
    x.delta({"content": "Half "})
    x.data({"error": {"message": "the engine fell over", "type": "InternalServerError", "param": None, "code": 500}})
    return x.done()


def error_refused(x):
    x.head()
    x.delta({"content": "Half "})
    x.data({"error": {"message": "no picture", "type": "invalid_request_error", "param": "messages[0]",
                      "code": "image_parse_error"}})
    return x.done()


def error_event(x):
    x.head()
    x.delta({"content": "Half "})
    x.chunk(b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n')
    x.raw(b"0\r\n\r\n")
    return KEEP


def error_after_done(x):
    x.head()
    x.words()
    x.delta({}, "stop")
    x.data("[DONE]")
    x.data({"error": {"message": "too late"}})
    x.raw(b"0\r\n\r\n")
    return KEEP


def double_finish(x):
    x.head()
    x.words()
    x.delta({}, "stop")
    x.delta({}, "stop")
    return x.done()


def whole(x):
    """Does not stream."""
    return x.status(200, {"id": "c", "object": "chat.completion", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "".join(answer_words(x.last_user()))},
         "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})


def embedding(text):
    """A vector that tells its text from others, exact as float32."""
    return [len(text) / 64, sum(text.encode()) % 251 / 256, -0.5]


def embeddings(x):
    texts = x.request["input"] if isinstance(x.request.get("input"), list) else [x.request.get("input")]
    rows = []
    for i, text in enumerate(texts):
        vector = embedding(text)
        if x.request.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        rows.append({"object": "embedding", "index": i, "embedding": vector})
    return x.status(200, json.dumps({"object": "list", "data": rows, "model": "m", "odd" : {"kept": [1.50]},
                                     "usage": {"prompt_tokens": 7, "total_tokens": 7}}))


def long(x):
    """More than any ring holds, as fast as it is read."""
    x.head()
    for i in range(20000):
        x.delta({"content": f"word{i} "})
    x.delta({}, "stop")
    return x.done()


def big_event(x):
    """One event with more text than one record holds."""
    x.head()
    x.delta({"content": "h\u00e9" * 100000})
    x.delta({}, "stop")
    return x.done()


def endless_event(x):
    x.head()
    for _ in range(17 * 16):
        x.chunk(b"data: " + b"x" * 65530 if _ == 0 else b"x" * 65536)
    x.sleep(600)


SCENARIOS = {f.__name__: f for f in (
    normal, gaps, together, stall_before, stall_head, stall_after_one, stall_pinging, refuse, close_at_once, reset, cut, garbage,
    garbage_events, html, http_400, http_400_context, http_401, http_404, http_429, http_429_quota, http_500, http_500_key, http_503,
    redirect, flaky, no_done, no_finish, no_usage, stays_open, odd_bytes, llama, extras, vendor, filtered, long_name, details, tools, reasoning,
    choices, told, error_first, error_middle, error_refused, error_event, error_after_done, double_finish, whole, long, big_event,
    endless_event)}


# ---- the server ------------------------------------------------------------------------------------------------


class Backend:
    def __init__(self, port=0):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.lock = threading.Lock()
        self.entries = []
        self.seen = {}
        self.runs = {}  # of `told`: when each run of an id began
        self.stopping = False
        self.connections = set()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping = True
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def log(self):
        """The requests so far, with `body` as bytes."""
        with self.lock:
            return [{**e, "body": base64.b64decode(e["body"])} for e in self.entries]

    def asked(self, scenario):
        """How many requests of a scenario there have been."""
        with self.lock:
            return sum(e["scenario"] == scenario for e in self.entries)

    def clear(self):
        with self.lock:
            self.entries.clear()

    def _accept(self):
        while not self.stopping:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            while self._one(connection):
                pass
        except OSError:
            pass
        finally:
            with self.lock:
                self.connections.discard(connection)
            connection.close()

    def _read(self, connection):
        """Request line, headers, body; None at the end."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return None
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (h.partition(":") for h in rest)}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            more = connection.recv(65536)
            if not more:
                return None
            body += more
        method, path, _ = line.split(" ")
        return method, path, headers, body[:length]

    def _one(self, connection):
        request = self._read(connection)
        if request is None:
            return False
        method, path, headers, body = request
        if path == "/__log":
            return self._log(connection, method)
        entry = {"id": len(self.entries) + 1, "method": method, "path": path, "headers": headers,
                 "body": base64.b64encode(body).decode(), "opened": time.time(), "ended": None, "ended_at": None,
                 "events": 0}
        x = Exchange(self, connection, entry, body)
        entry["model"] = x.request.get("model")
        word = re.search(r"@(\w+)", x.last_user())
        name = entry["model"] if entry["model"] in SCENARIOS else word.group(1) if word else "normal"
        entry["scenario"] = name
        with self.lock:
            self.entries.append(entry)
        scenario = SCENARIOS.get(name, normal)
        if path.endswith("/embeddings") and scenario is normal:
            scenario = embeddings
        return self._play(x, entry, scenario)

    def _play(self, x, entry, scenario):
        kept = None
        try:
            kept = scenario(x)
            ended = "server"
        except Gone:
            ended = "client"
        with self.lock:
            entry["ended"], entry["ended_at"] = ended, time.time()
        return kept is KEEP

    def _log(self, connection, method):
        with self.lock:
            text = json.dumps(self.entries).encode()
            if method == "DELETE":
                self.entries.clear()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                           % (len(text), text))
        return True


def main():
    backend = Backend(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print("ready", backend.url, flush=True)
    sys.stdin.read()
    backend.stop()


if __name__ == "__main__":
    main()
