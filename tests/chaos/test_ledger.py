"""An account that finds nothing proves nothing: each thing that may go wrong is told to it once."""

import json
import pathlib
import socket
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from backend import told_words  # noqa: E402
from ledger import WRONG, Echo, Ledger, Told, Unread  # noqa: E402
from ledger_http import Chat  # noqa: E402


class Backend:
    runs = {}


@pytest.fixture
def told():
    """An account of one request, and a way to tell it events of that."""
    ledger = Ledger(None, 1)
    ledger.start()
    request = next(iter(ledger.open.values()))

    def tell(ev, **members):
        ledger.on({"ev": ev, "id": request.id, **members})

    tell("accepted", lane=0)
    return ledger, request, tell


def found(ledger):
    return {what: ledger.count(what) for what in WRONG if ledger.count(what)}


def halves(request):
    prompt = request.frame["prompt"]
    return prompt[:10], prompt[10:]


def test_a_whole_answer_is_right(told):
    ledger, request, tell = told
    first, rest = halves(request)
    tell("delta", seq=1, text=first)
    tell("delta", first=2, seq=4, text=rest)
    tell("done", seq=5)
    assert found(ledger) == {} and ledger.ended == {"done": 1} and not ledger.open


def test_what_never_ends_is_lost(told):
    ledger, _, tell = told
    tell("delta", seq=1, text="")
    ledger.lines = {}
    ledger.finish(deadline=0)
    assert found(ledger) == {"lost": 1}


@pytest.mark.parametrize("event", [{"code": "not_found"}, {"code": "upstream_error", "seq": 2},
                                   {"code": "internal", "seq": 2}])
def test_an_error_that_nothing_explains_is_a_loss(told, event):
    ledger, request, tell = told
    tell("delta", seq=1, text=halves(request)[0])
    tell("error", **event)
    assert found(ledger) == {"lost": 1}


def test_worker_restarted_is_right_behind_a_part_of_the_answer_only(told):
    ledger, request, tell = told
    tell("delta", seq=1, text=halves(request)[0])
    tell("error", seq=2, code="worker_restarted")
    assert found(ledger) == {} and ledger.ended == {"worker_restarted": 1}
    ledger.start()
    other = next(iter(ledger.open))
    ledger.on({"ev": "error", "id": other, "seq": 1, "code": "worker_restarted"})
    assert found(ledger) == {"lost": 1}


@pytest.fixture
def unread():
    """An account of one request that nobody reads before it has ended."""
    ledger = Ledger(None, 1, [Unread(Backend)])
    ledger.start()
    request = next(iter(ledger.open.values()))
    asked = []
    request.line.ask = lambda request: asked.append(request.over)
    Backend.runs = {request.id: [1.0, 2.0]}
    ledger.on({"ev": "accepted", "id": request.id, "lane": 0})
    return ledger, request, asked, lambda ev, **members: ledger.on({"ev": ev, "id": request.id, **members})


def test_an_answer_that_nobody_reads_is_read_when_it_has_ended(unread):
    ledger, request, asked, tell = unread
    tell("result", status="running", text="")
    assert asked == [] and not request.over
    tell("result", status="completed", text="whatever")
    assert asked == [True]
    tell("delta", seq=1, text=answer(request.id, 2, told_words(request.id)))
    tell("done", seq=2)
    assert found(ledger) == {} and ledger.ended == {"done": 1}


def test_an_answer_that_nobody_reads_may_not_be_lost(unread):
    ledger, request, _, tell = unread
    tell("result", status="failed", text="")
    tell("delta", seq=1, text=answer(request.id, 2, 1))
    tell("error", seq=2, code="worker_restarted")
    assert found(ledger) == {"lost": 1}


def test_a_part_of_an_answer_that_nobody_reads_is_a_finding(unread):
    ledger, _, _, tell = unread
    tell("result", status="running", text="a part")
    assert found(ledger) == {"silent": 1}


def test_an_event_that_came_before_is_a_duplicate(told):
    ledger, request, tell = told
    first, rest = halves(request)
    tell("delta", seq=1, text=first)
    tell("delta", first=1, seq=2, text=rest)
    assert found(ledger) == {"duplicated": 1}


def test_a_second_end_is_a_duplicate(told):
    ledger, request, tell = told
    tell("delta", seq=1, text=request.frame["prompt"])
    tell("done", seq=2)
    tell("done", seq=2)
    assert found(ledger) == {"duplicated": 1}


def test_an_event_before_its_turn_is_reordered(told):
    ledger, request, tell = told
    tell("delta", seq=2, text=request.frame["prompt"])
    tell("done", seq=3)
    assert found(ledger) == {"reordered": 1}


def test_done_with_half_an_answer_is_a_silent_end(told):
    ledger, request, tell = told
    tell("delta", seq=1, text=halves(request)[0])
    tell("done", seq=2)
    assert found(ledger) == {"silent": 1}


def answer(id, run, n):
    return "".join(f"{id[:8]}·{run}·{i} " for i in range(n))


@pytest.mark.parametrize("text, right", [
    (lambda id: answer(id, 2, 18), True),
    (lambda id: answer(id, 2, 17), False),  # cut
    (lambda id: answer(id, 1, 18), False),  # of a run that was not the last
    (lambda id: answer(id, 1, 3) + answer(id, 2, 18)[len(answer(id, 1, 3)):], False),  # of both
    (lambda id: answer(id, 2, 3) + answer(id, 2, 18), False),  # twice
    (lambda id: answer("ffffffff", 2, 18), False),  # another's
])
def test_an_answer_of_a_backend_is_one_whole_run_and_the_last(text, right):
    id = "10ab0000-0000"  # of 18 words
    ledger = Ledger(None, 1, [Told(Backend)])
    ledger.start()
    request = next(iter(ledger.open.values()))
    request.id, Backend.runs = id, {id: [1.0, 2.0]}
    request.text = text(id)
    assert request.kind.whole(request, {}) == right


class Door:
    """Answers each connection with the next of what it was given, and closes it."""

    def __init__(self):
        self.listener, self.answers = socket.create_server(("127.0.0.1", 0)), []
        threading.Thread(target=self.serve, daemon=True).start()

    def http(self):
        return [f"127.0.0.1:{self.listener.getsockname()[1]}"]

    def serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.recv(1 << 16)
            s.sendall(self.answers.pop(0))
            s.close()


@pytest.fixture
def chat():
    """An account of one streaming request over HTTP: what the door says to it, one answer for each connection."""
    door = Door()
    ledger = Ledger(door, 1, [Echo(model="echo").over(Chat)])
    request = prepared(ledger)
    while int(request.id[0], 16) % 2:  # unary
        ledger.open.clear()
        request = prepared(ledger)
    yield ledger, request, door
    ledger.hang_up()
    door.listener.close()


def prepared(ledger):
    """A request that is asked with the account's next step only."""
    begin, Chat.begin = Chat.begin, lambda line, request: None
    try:
        ledger.start()
    finally:
        Chat.begin = begin
    request = next(iter(ledger.open.values()))
    request.line.open = {request.id: request}
    return request


def stream(*chunks, end=b"0\r\n\r\n"):
    head = b"HTTP/1.1 200 OK\r\nx-millrace-lane: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def chunk(request, seq, text="", finish=None):
    choice = {"delta": {"content": text}, "finish_reason": finish}
    return f"id: {request.id}.{seq}\ndata: {json.dumps({'choices': [choice]})}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def test_who_asks_again_over_http_gets_the_whole_answer(chat):
    ledger, request, door = chat
    first, rest = halves(request)
    whole = [chunk(request, 1, first), chunk(request, 2, rest), chunk(request, 3, "", "stop"), DONE]
    door.answers = [stream(whole[0], end=b""), stream(*whole)]
    ledger.finish(deadline=20)
    assert found(ledger) == {} and ledger.ended == {"done": 1} and ledger.asked_again == 1


def test_an_answer_over_http_that_is_not_whole_is_silent(chat):
    ledger, request, door = chat
    door.answers = [stream(chunk(request, 1, halves(request)[0]), chunk(request, 2, "", "stop"), DONE)]
    ledger.finish(deadline=20)
    assert found(ledger) == {"silent": 1}


def test_an_event_over_http_that_comes_twice_is_found(chat):
    ledger, request, door = chat
    first, rest = halves(request)
    door.answers = [stream(chunk(request, 1, first), chunk(request, 1, ""), chunk(request, 2, rest),
                           chunk(request, 3, "", "stop"), DONE)]
    ledger.finish(deadline=20)
    assert ledger.count("duplicated") >= 1


def test_a_refusal_over_http_is_a_loss(chat):
    ledger, request, door = chat
    body = b'{"error":{"code":"internal","message":"no"}}'
    door.answers = [b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)]
    ledger.finish(deadline=20)
    assert found(ledger) == {"lost": 1}
