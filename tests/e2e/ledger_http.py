"""Requests of the account (ledger.py) that come over HTTP: as jobs, and in OpenAI's dialect.

What the surface says is told to the ledger as the socket's events, so that one account holds for all of them.
"""

import json
import socket
import time

from ledger import LOOK_S


class Exchange:
    """A connection with one request on it, and what has come of its answer."""

    def __init__(self, address, method, path, headers, body):
        self.socket = socket.create_connection(address, 10)
        self.buffer, self.status, self.headers, self.text, self.whole = b"", None, {}, "", False
        self.left, self.bytes = None, b""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(content)}"]
        lines += ["Content-Type: application/json"] * bool(content) + [f"{name}: {value}" for name, value in headers.items()]
        try:
            self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        except OSError:
            pass  # read() sees it too

    def read(self):
        """False: the connection is over."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        self.buffer += data
        if self.status is None and b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            first, *lines = head.decode().split("\r\n")
            self.status = int(first.split()[1])
            self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if self.status is not None:
            self.body()
        return data != b""

    def body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            self.bytes, self.whole = self.buffer, len(self.buffer) == int(self.headers.get("content-length", 0))
            return
        while not self.whole and b"\r\n" in self.buffer:
            size, rest = self.buffer.split(b"\r\n", 1)
            n = int(size, 16)
            if len(rest) < n + 2:
                return
            self.bytes, self.buffer, self.whole = self.bytes + rest[:n], rest[n + 2:], n == 0

    def json(self):
        return json.loads(self.bytes) if self.whole and self.bytes else None

    def events(self):
        """Those that came since the last call: (seq or None, data)."""
        *events, self.bytes = self.bytes.split(b"\n\n")
        for event in events:
            fields = dict(line.split(": ", 1) for line in event.decode().split("\n") if not line.startswith(":"))
            if "data" in fields:
                yield (int(fields["id"].rsplit(".", 1)[1]) if "id" in fields else None), fields["data"]


class HttpLine:
    """Asks each request on a connection of its own, and again when that breaks."""

    def __init__(self, ledger):
        self.ledger, self.open, self.exchanges = ledger, {}, {}  # id -> its exchange
        self.address = None

    def begin(self, request):
        self.ask(request)

    def connected(self):
        for request in list(self.open.values()):
            if request.id not in self.exchanges and time.monotonic() - request.asked > request.pause:
                self.ask(request)
        return True

    def sockets(self):
        return [exchange.socket for exchange in self.exchanges.values()]

    def mail(self):
        pass

    def look(self):
        pass

    def ask(self, request):
        self.let_go(request.id)
        request.asked, request.pause = time.monotonic(), 0
        try:
            self.address = self.address or self.ledger.daemon.http()[0].rsplit(":", 1)
            self.exchanges[request.id] = Exchange(self.address, *self.question(request))
        except (OSError, AttributeError):  # nobody is there yet; another daemon has another port
            request.pause, self.address = 0.05, None

    def submitted(self, request):
        self.ledger.asked_again += request.submitted
        request.submitted = True

    def read(self, readable):
        id, exchange = next((id, e) for id, e in self.exchanges.items() if e.socket is readable)
        goes_on = exchange.read()
        request = self.open[id]
        if exchange.status is not None:
            self.answered(request, exchange)
        if id in self.exchanges and self.exchanges[id] is exchange and not goes_on:
            self.let_go(id)  # and connected() asks again

    def let_go(self, id):
        if id in self.exchanges:
            self.exchanges.pop(id).socket.close()

    def closed(self, request):
        self.let_go(request.id)

    def hang_up(self):
        for id in list(self.exchanges):
            self.let_go(id)

    def tell(self, request, event):
        self.ledger.on({"id": request.id, **event})

    def refused(self, request, exchange, **more):
        if exchange.whole:
            self.tell(request, {"ev": "error", **exchange.json()["error"], **more})


class Jobs(HttpLine):
    """POST /v1/jobs, whose events are read behind the last one seen."""

    def question(self, request):
        if request.accepted and not request.over:
            return "GET", f"/v1/jobs/{request.id}", {}, None
        if request.accepted:
            return "GET", f"/v1/jobs/{request.id}/events?after={request.seq}", {}, None
        self.submitted(request)
        frame = {key: value for key, value in request.frame.items() if key != "detach"}
        return "POST", "/v1/jobs", {}, {"id": request.id, "session": request.id[:2], **frame}

    def answered(self, request, exchange):
        if exchange.status not in (200, 202):
            self.refused(request, exchange)
        elif not request.accepted and exchange.whole:
            self.let_go(request.id)
            self.tell(request, {"ev": "accepted", "lane": int(exchange.headers["x-millrace-lane"])})
        elif request.accepted and not request.over and exchange.whole:
            self.let_go(request.id)
            request.asked, request.pause = time.monotonic(), LOOK_S
            self.tell(request, {"ev": "result", **exchange.json()})
        elif request.accepted and request.over:
            for seq, data in exchange.events():
                event = json.loads(data)
                assert event.get("seq") == seq, event
                self.tell(request, event)
                if request.how:
                    return


class Chat(HttpLine):
    """POST /v1/chat/completions, every other one unary. Who asks again gets the answer from its beginning."""

    def question(self, request):
        self.submitted(request)
        request.seq, request.text, request.streams = 0, "", int(request.id[0], 16) % 2 == 0
        frame = request.frame
        headers = {"Idempotency-Key": request.id, "x-millrace-session": request.id[:2],
                   "x-millrace-rag": "on" if frame.get("rag", True) else "off"}
        return "POST", "/v1/chat/completions", headers, \
            {"model": frame["model"], "stream": request.streams, "messages": [{"role": "user", "content": frame["prompt"]}]}

    def answered(self, request, exchange):
        request.accepted, request.lane = True, int(exchange.headers.get("x-millrace-lane", request.lane or 0))
        if exchange.status != 200:
            # What ended before its first event is a status; only who streams knows how far it had come.
            self.refused(request, exchange, seq=request.seq + 1, told=request.streams)
        elif not request.streams and exchange.whole:
            answer = exchange.json()
            request.text = answer["choices"][0]["message"]["content"]
            self.tell(request, {"ev": "done", "seq": 1, "sources": answer.get("sources", [])})
        elif request.streams:
            self.streamed(request, exchange)

    def streamed(self, request, exchange):
        for seq, data in exchange.events():
            event = json.loads(data) if data != "[DONE]" else {}
            choice = (event.get("choices") or [{}])[0]
            if "error" in event:
                self.tell(request, {"ev": "error", "seq": request.seq + 1, **event["error"]})
            elif data == "[DONE]":
                self.tell(request, {"ev": "done", "seq": request.seq + 1, "sources": request.sources})
            elif choice.get("finish_reason"):
                request.sources = event.get("sources", [])
            elif seq is not None:
                if seq <= request.seq:
                    self.ledger.find("duplicated", request, event)
                self.tell(request, {"ev": "delta", "first": request.seq + 1, "seq": seq,
                                    "text": choice["delta"].get("content", "")})
            if request.how:
                return
