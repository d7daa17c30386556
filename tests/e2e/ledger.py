"""An account of requests whose daemon dies under them: what each was told, and whether that was right.

Who was not accepted asks again under the same id; who was accepted attaches behind the last event that he has
seen. What may go wrong, and must not:

    lost        no end came, or an error that nothing explains
    duplicated  an event that had come before, or after the end; a run that had no right to be
    silent      `done`, and the answer is not whole
    reordered   an event before its turn
"""

import collections
import random
import select
import time
import uuid

from backend import told_words
from conftest import DEADLINE, Client

LOOK_S = 0.2  # between two questions whether an answer has ended
WRONG = ("lost", "duplicated", "silent", "reordered")


class Request:
    def __init__(self, id, kind, line, frame):
        self.id, self.kind, self.line, self.frame = id, kind, line, frame
        self.accepted, self.lane, self.seq, self.text = False, None, 0, ""
        self.over, self.asked, self.pause = not kind.unread, 0.0, 0.0
        self.started, self.ended, self.how = time.time(), None, None
        self.submitted = False

    def __str__(self):
        return f"{self.kind.name} {self.id} accepted={self.accepted} seq={self.seq} text={self.text[-80:]!r}"


# ---- kinds of requests, each of which knows what its answer must be ------------------------------------------------


class Kind:
    unread = False  # nobody reads the answer before it has ended: then it may not be lost half-way
    line = None     # how it comes; None: over the Unix socket

    def over(self, line):
        self.line, self.name = line, f"{self.name} as {line.__name__}"
        return self


class Echo(Kind):
    """The answer is the prompt."""

    name = "echo"

    def __init__(self, **frame):
        self.frame = frame

    def ask(self, id, dice):
        words = [dice.choice(["mill", "añb", "日本語", "🙂🙂"]) for _ in range(dice.choice([1, 5, 20]))]
        return {**self.frame, "prompt": f"{id} " + " ".join(words)}

    def whole(self, request, event):
        return request.text == request.frame["prompt"]

    def begun(self, request):
        return request.text != "" and request.frame["prompt"].startswith(request.text)


class Kept(Echo):
    """The same, detached: its end is told when it is stored."""

    name = "kept"

    def ask(self, id, dice):
        return {**super().ask(id, dice), "detach": True}


class Redacted(Echo):
    """The same with card numbers among the words, each cut in two by the parts of its message, so that they are whole
    in the answer only: post takes them out."""

    name = "redacted"
    card = "4012 8888 8888 1881"

    def ask(self, id, dice):
        words = super().ask(id, dice)["prompt"].split(" ")
        for _ in range(dice.choice([1, 3])):
            words.insert(dice.randrange(1, len(words) + 1), self.card)
        said = " ".join(words)
        parts = [{"type": "text", "text": text} for text in said.replace(self.card, "4012 8888|8888 1881").split("|")]
        parts[1:] = [{**part, "text": " " + part["text"]} for part in parts[1:]]
        return {**self.frame, "messages": [{"role": "user", "content": parts}], "told": said.replace(self.card, "<CREDIT_CARD>")}

    def whole(self, request, event):
        return request.text == request.frame["told"]

    def begun(self, request):
        return request.text != "" and request.frame["told"].startswith(request.text)


class Restored(Echo):
    """The same with addresses: assemble takes them out of the prompt, post puts them back into the answer."""

    name = "restored"

    def ask(self, id, dice):
        words = super().ask(id, dice)["prompt"].split(" ")
        for _ in range(dice.choice([1, 4])):
            words.insert(dice.randrange(1, len(words) + 1), f"{dice.choice('ab')}@example.com")
        return {**self.frame, "prompt": " ".join(words)}


class Turn(Echo):
    """The same as a turn of one of a few sessions: its end is told when the turn is kept, and the turns before stand
    in the prompt."""

    name = "turn"

    def ask(self, id, dice):
        return {**super().ask(id, dice), "session": f"session {dice.randrange(16)}"}


class Question(Kind):
    """The answer is what the same question got before anything died, sources and all."""

    name = "extract"

    def __init__(self, answers, **frame):
        self.answers, self.frame = answers, frame  # question -> (text, sources)

    def ask(self, id, dice):
        return {**self.frame, "prompt": dice.choice(list(self.answers))}

    def whole(self, request, event):
        return (request.text, event["sources"]) == self.answers[request.frame["prompt"]]

    def begun(self, request):
        return request.text != "" and self.answers[request.frame["prompt"]][0].startswith(request.text)


class Told(Kind):
    """The backend's scenario `told`: each word names the request, the run of it, and its place in the answer."""

    name = "openai"

    def __init__(self, backend, **frame):
        self.backend, self.frame = backend, frame

    def ask(self, id, dice):
        return {**self.frame, "rag": dice.random() < 0.3, "prompt": f"how does the mill go on? id={id}"}

    def begun(self, request):
        """One run's words from the first on, in their order; and that run was the last one. Of the last word post may
        have held digits back when it ended in an error."""
        words, run = request.text.split(" "), len(self.backend.runs[request.id])
        should = [f"{request.id[:8]}·{run}·{n}" for n in range(len(words))]
        return request.text != "" and words[:-1] == should[:-1] and should[-1].startswith(words[-1])

    def whole(self, request, event):
        return self.begun(request) and request.text.endswith(" ") and request.text.count(" ") == told_words(request.id)


class Unread(Told):
    """The same, detached, and read when `result` says that it has ended."""

    name, unread = "unread", True

    def ask(self, id, dice):
        return {**super().ask(id, dice), "detach": True}


# ---- connections ---------------------------------------------------------------------------------------------------


class Line:
    """One connection, made anew when it breaks, and the requests asked over it."""

    def __init__(self, ledger):
        self.ledger, self.client, self.open = ledger, None, {}

    def connected(self):
        if self.client:
            return True
        try:
            self.client = Client(self.ledger.daemon.socket)
        except OSError:  # nobody is there yet
            return False
        for request in list(self.open.values()):
            self.ask(request)
        return True

    def ask(self, request):
        request.asked = time.monotonic()
        if request.accepted and not request.over:
            frame = {"op": "result", "id": request.id}
        elif request.accepted:
            frame = {"op": "attach", "id": request.id, "after": request.seq}
        else:
            self.ledger.asked_again += request.submitted
            request.submitted = True
            frame = {"op": "submit", "id": request.id, "session": request.id[:2], **request.frame}
        try:
            self.client.send(**frame)
        except (BrokenPipeError, ConnectionResetError):
            pass  # read() sees it too

    def look(self):
        """Have those ended that nobody reads yet?"""
        now = time.monotonic()
        for request in list(self.open.values()):
            if self.client and request.accepted and not request.over and now - request.asked > LOOK_S:
                self.ask(request)

    def begin(self, request):
        if self.client:
            self.ask(request)

    def sockets(self):
        return [self.client.socket] if self.client else []

    def closed(self, request):
        pass

    def mail(self):
        while self.client and self.client.mail:
            self.ledger.on(self.client.mail.pop(0))

    def read(self, _):
        try:
            data = self.client.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.hang_up()
            return
        self.client.unpacker.feed(data)
        for event in self.client.unpacker:
            self.ledger.on(event)

    def hang_up(self):
        if self.client:
            self.client.close()
        self.client = None


class Ledger:
    def __init__(self, daemon, seed, kinds=None, lines=1):
        self.daemon, self.random, self.kinds = daemon, random.Random(seed), kinds or [Echo()]
        self.lines = {way: [(way or Line)(self) for _ in range(lines)] for way in {kind.line for kind in self.kinds}}
        self.open, self.closed, self.ended = {}, {}, collections.Counter()
        self.asked_again = 0  # submits of what had been submitted, and not been accepted as far as its client knew
        self.wrong, self.n = [], 0

    def start(self):
        id = str(uuid.UUID(int=self.random.getrandbits(128)))
        kind = self.random.choice(self.kinds)
        line = self.lines[kind.line][self.n % len(self.lines[kind.line])]
        request = Request(id, kind, line, kind.ask(id, self.random))
        self.n += 1
        self.open[id] = line.open[id] = request
        line.begin(request)

    def find(self, what, request, event=None):
        self.wrong.append((what, str(request), event))

    def close(self, request, how):
        self.ended[how] += 1
        self.closed[request.id] = request
        request.ended, request.how = time.time(), how
        del self.open[request.id], request.line.open[request.id]
        request.line.closed(request)

    def on(self, event):
        request = self.open.get(event.get("id"))
        if not request and event["ev"] == "result" and event.get("id") in self.closed:
            return  # to a question that was asked before the end came
        if not request:
            self.find("duplicated", self.closed.get(event.get("id")), event)
        elif event["ev"] == "accepted":
            request.accepted, request.lane = True, event["lane"]
            if request.frame.get("detach") and request.over:
                request.line.ask(request)  # its events come to who attaches
        elif event["ev"] == "result":
            self.on_result(request, event)
        elif not event.get("seq"):
            self.find("lost", request, event)
            self.close(request, "refused")
        else:
            self.on_event(request, event)

    def on_result(self, request, event):
        if event["status"] in ("queued", "running"):
            if event["text"]:
                self.find("silent", request, event)  # who was told a part has read it
        elif not request.over:  # there may be answers to more than one question
            request.over = True
            request.line.ask(request)

    def on_event(self, request, event):
        first = event.get("first", event["seq"])
        if first != request.seq + 1:
            self.find("duplicated" if first <= request.seq else "reordered", request, event)
        request.seq = event["seq"]
        request.text += event.get("text", "")
        if event["ev"] == "done":
            if not request.kind.whole(request, event):
                self.find("silent", request, event)
            self.close(request, "done")
        elif event["ev"] == "error":
            begun = not event.get("told", True) or request.kind.begun(request)
            if event["code"] != "worker_restarted" or request.kind.unread or not begun:
                self.find("lost", request, event)
            self.close(request, event["code"])

    def step(self, seconds):
        """Takes what comes, for so long."""
        end = time.monotonic() + seconds
        while True:
            lines = [line for way in self.lines.values() for line in way]
            ready = {s: line for line in lines if line.connected() for s in line.sockets()}
            for line in lines:
                line.mail()
                line.look()
            left = end - time.monotonic()
            if left <= 0:
                return
            if not ready:
                time.sleep(min(left, 0.01))
                continue
            for readable in select.select(list(ready), [], [], min(left, LOOK_S))[0]:
                ready[readable].read(readable)

    def keep(self, n):
        """So many requests are under way."""
        while len(self.open) < n:
            self.start()

    def finish(self, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while self.open and time.monotonic() < end:
            self.step(0.05)
        for request in list(self.open.values()):
            self.find("lost", request)
            self.close(request, "never")

    def hang_up(self):
        for line in (line for way in self.lines.values() for line in way):
            line.hang_up()

    def count(self, what):
        return sum(1 for wrong, *_ in self.wrong if wrong == what)
