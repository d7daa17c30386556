"""What a hostile or clever user found: kills of everything at once, broken frames, a backend that lies."""

import os
import random
import signal
import socket
import time
import uuid

import msgpack
import pytest

import backend
from backend import Backend
from conftest import check_sequence, children, echo, shm_objects, text_of, wait_for
from ledger import Ledger


def check_counts(daemon, ledger):
    assert ledger.wrong == []
    requests = wait_for("nothing in flight", lambda: (r := daemon.status()["requests"])["in_flight"] == 0 and r)
    assert requests["admitted"] == ledger.ended.total()
    assert requests["completed"] == ledger.ended["done"] and requests["failed"] == ledger.ended["worker_restarted"]


@pytest.mark.parametrize("settings", [
    {"gateways": 1},
    {"gateways": 3, "admission.max_in_flight": 16, "memory.ring_bytes": 65536, "channels.rag": 4,
     "channels.inference": 4, "channels.post": 4, "channels.stream": 4, "stream.log_bytes": 1048576},
], ids=["roomy", "narrow"])
def test_random_kills_of_every_process_lose_and_repeat_nothing(daemon, settings):
    d = daemon(echo(gap_ms=2, lanes=2, **{"stream.gateway_grace_ms": 60000, **settings}))
    ledger, dice = Ledger(d, 1), random.Random(2)
    kill_at, until = time.monotonic() + 0.2, time.monotonic() + 4
    while (now := time.monotonic()) < until:
        ledger.keep(40)
        ledger.step(0.02)
        if now < kill_at:
            continue
        kill_at = now + 0.1
        try:
            os.kill(dice.choice(children(d.process.pid)), signal.SIGKILL)
        except (ProcessLookupError, IndexError):
            pass
    ledger.finish()
    check_counts(d, ledger)
    assert d.stop() == 0 and shm_objects(d.instance) == []
    assert "Sanitizer" not in d.log()


def test_a_supervisor_killed_again_and_again_under_load_is_adopted(daemon):
    d = daemon(echo(gap_ms=2, lanes=2, **{"stream.gateway_grace_ms": 60000}))
    ledger, dice = Ledger(d, 3), random.Random(4)
    for _ in range(5):
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            ledger.keep(40)
            ledger.step(0.02)
        for pid in dice.sample(children(d.process.pid), 2):
            os.kill(pid, signal.SIGKILL)
        d.process.kill()
        d.process.wait()
        d.start()
    ledger.finish()
    check_counts(d, ledger)


def test_a_drain_that_takes_too_long_ends_every_answer_with_one_error(daemon):
    with Backend() as b:
        d = daemon({"inference.workers": [{"name": "b", "kind": "openai", "base_url": b.url}],
                    "inference.models": {"*": ["b"]}, "rag.index": "none", "supervisor.drain_timeout_ms": 300})
        c = d.client()
        ids = [str(uuid.uuid4()) for _ in range(10)]
        for n, id in enumerate(ids):
            c.send(op="submit", id=id, prompt="x", model=["stall_before", "stall_after_one"][n % 2])
        wait_for("the backend to be asked", lambda: len(b.log()) == 10)
        d.process.send_signal(signal.SIGTERM)
        for id in ids:
            events = c.events(id)
            check_sequence(events)
            assert events[-1].get("code") == "draining" and events[-1]["seq"], events
        assert d.process.wait(60) == 1
        assert "ev=overrun" in d.log() and shm_objects(d.instance) == []


def test_the_number_of_connections_falls_when_idle_ones_leave(daemon):
    d = daemon(echo())
    clients = [d.client() for _ in range(50)]
    wait_for("all of them", lambda: d.status()["gateways"][0]["connections"] == 50)
    for c in clients[1:]:
        c.close()
    wait_for("the one that is left", lambda: d.status()["gateways"][0]["connections"] == 1)


@pytest.mark.parametrize("settings", [{"stream.log_bytes": 1048576}, {"admission.max_in_flight": 4096}])
def test_a_log_too_small_for_what_may_be_in_flight_is_refused_at_the_start(daemon, settings):
    d = daemon(echo(**settings), ready=False)
    assert d.process.wait(60) == 2
    assert "stream.log_bytes" in d.log() and "expected at least" in d.log(), d.log()


# ---- a backend whose bytes are no UTF-8 ----


def lying(*events):
    def scenario(x):
        x.head()
        for event in events:
            x.chunk(b"data: " + event + b"\n\n")
        return x.done()
    return scenario


SAYS = b'{"choices":[{"index":0,"delta":{"content":"caf\xc3\xa9 \xff!"}}]}'
STOP = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
LIES = {
    "lie_text": lying(SAYS, STOP),
    "lie_extra": lying(SAYS, b'{"choices":[{"index":0,"delta":{},"logprobs":{"t\xfe":1}}],"x":"\xff"}', STOP),
    "lie_usage": lying(SAYS, STOP, b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"a\xff":{}}}'),
    "lie_finish": lying(SAYS, b'{"choices":[{"index":0,"delta":{},"finish_reason":"st\xffp"}]}'),
    "lie_tool": lying(b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":'
                      b'{"name":"f\xff","arguments":"{}"}}]}}]}', STOP),
}


def test_what_a_backend_says_reaches_clients_as_utf8_only(daemon, monkeypatch):
    for name, scenario in LIES.items():
        monkeypatch.setitem(backend.SCENARIOS, name, scenario)
    with Backend() as b:
        d = daemon({"inference.workers": [{"name": "b", "kind": "openai", "base_url": b.url}],
                    "inference.models": {"*": ["b"]}, "rag.index": "none"})
        for name in LIES:
            events = d.client().submit(str(uuid.uuid4()), prompt="x", model=name)  # would not decode
            check_sequence(events)
            if name in ("lie_finish", "lie_tool"):
                assert events[-1]["code"] == "upstream_error" and "UTF-8" in events[-1]["message"], (name, events)
            else:
                assert events[-1]["ev"] == "done" and text_of(events) == "café \ufffd!", (name, events)


# ---- clients ----


def test_broken_frames_in_any_number_harm_nobody_else(daemon):
    d = daemon(echo())
    dice, gateway = random.Random(5), d.pid("gateway")
    good = msgpack.packb({"op": "submit", "id": "f", "prompt": "a b", "params": {"seed": 1, "stop": ["x"]}})
    for _ in range(1500):
        frame = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            frame[dice.randrange(len(frame))] = dice.randrange(256)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(d.socket)
            s.sendall(frame[:dice.randrange(1, len(frame))] if dice.random() < 0.3 else frame)
            if dice.random() < 0.3:
                s.shutdown(socket.SHUT_WR)
    assert text_of(d.client().submit("fine", prompt="still here")) == "still here"
    assert d.pid("gateway") == gateway
    wait_for("nothing in flight", lambda: d.status()["requests"]["in_flight"] == 0)
    wait_for("every connection closed", lambda: d.status()["gateways"][0]["connections"] == 0)


def test_who_never_reads_holds_up_nobody_else(daemon):
    d = daemon(echo())
    deaf = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for s in deaf:
        s.connect(d.socket)
        s.setblocking(False)
        try:
            for _ in range(3000):
                s.send(msgpack.packb({"op": "submit", "id": str(uuid.uuid4()), "prompt": "word " * 400}))
        except BlockingIOError:
            pass
    c = d.client()
    for n in range(20):
        assert text_of(c.submit(str(uuid.uuid4()), prompt=f"request {n}")) == f"request {n}"
    wait_for("their answers to be done all the same", lambda: d.status()["requests"]["in_flight"] == 0)
    for s in deaf:
        s.close()


def test_many_readers_come_at_any_time_and_each_gets_all_of_it_once(daemon):
    d = daemon(echo(gap_ms=2, **{"gateways": 2}))
    prompt = "w " * 200
    first = d.client()
    first.send(op="submit", id="shared", prompt=prompt)
    first.wait(lambda e: e["ev"] == "accepted")
    readers = [d.client() for _ in range(60)]
    for n, reader in enumerate(readers):
        reader.send(op="attach", id="shared", after=n % 7)
        reader.send(op="submit", id="shared", prompt=prompt)  # a repeat: only `accepted` is new
        time.sleep(0.003)
    for n, reader in enumerate(readers):
        events = [e for e in reader.events("shared") if e["ev"] != "accepted"]
        check_sequence(events, after=n % 7)
        assert events[-1]["ev"] == "done" and text_of(events) == "w " * (200 - n % 7)
    assert d.status()["requests"]["admitted"] == 1
