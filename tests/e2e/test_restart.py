"""Planned restarts and the gateway's death: no request fails, none is lost, none runs twice."""

import os
import random
import signal
import subprocess
import threading
import uuid

import msgpack
import pytest

from backend import Backend
from conftest import MILLRACE, Client, Daemon, check_sequence, echo, shm_objects, text_of, wait_for
from test_backend import behind

LOST = (BrokenPipeError, ConnectionResetError, ConnectionRefusedError)


class Caller(threading.Thread):
    """A client that asks for one answer after the other. What it does when its connection ends:

    fresh  a new connection for each request, and it must hold: no second try
    kept   one for as long as it holds; it may end between two answers, never within one
    tough  one for as long as it holds; it may end at any time, and then it goes on where it was
    """

    def __init__(self, d, kind, stop, words=6):
        super().__init__()
        self.d, self.kind, self.stopped, self.words = d, kind, stop, words
        self.client, self.done, self.lost, self.error = None, 0, 0, None
        self.start()

    def run(self):
        try:
            while not self.stopped.is_set():
                self.one()
        except BaseException as error:  # the test says it
            self.error = error

    def one(self):
        id = str(uuid.uuid4())
        prompt = " ".join(f"{id[:8]}-{n}" for n in range(random.randrange(1, self.words)))
        events = self.ask(id, prompt + " " * (5000 if random.random() < 0.2 else 0))  # some in the arena
        assert [e["ev"] for e in events].count("done") == 1 and events[-1]["ev"] == "done", events[-1]
        assert text_of(events).strip() == prompt
        check_sequence(events)
        self.done += 1

    def ask(self, id, prompt):
        events, accepted = [], False
        while True:
            try:
                if self.client is None:
                    self.client = self.d.client()
                if accepted:
                    last = max([e.get("seq", 0) for e in events], default=0)
                    self.client.send(op="attach", id=id, after=last)
                else:
                    self.client.send(op="submit", id=id, prompt=prompt, session=id)
                got = self.client.events(id)
            except LOST:
                got = []
            accepted = accepted or any(e["ev"] == "accepted" for e in got)
            events += [e for e in got if e["ev"] != "accepted"]
            if events and events[-1]["ev"] in ("done", "error"):
                if self.kind == "fresh":
                    self.client.close()
                    self.client = None
                return events
            assert self.kind == "tough" or (self.kind == "kept" and not got), f"{self.kind}: cut after {got}"
            self.lost += 1
            self.client.close()
            self.client = None


class Load:
    def __init__(self, d, **kinds):
        self.d, self.stop = d, threading.Event()
        self.callers = [Caller(d, kind, self.stop) for kind, n in kinds.items() for _ in range(n)]

    def runs(self):
        """Every caller has had another answer since."""
        before = [c.done for c in self.callers]
        wait_for("answers", lambda: all(c.error or c.done > n for c, n in zip(self.callers, before)))

    def end(self):
        self.stop.set()
        for c in self.callers:
            c.join()
        errors = [(c.kind, repr(c.error)) for c in self.callers if c.error]
        assert not errors, errors[:3]
        requests = self.d.status()["requests"]
        assert requests["completed"] == sum(c.done for c in self.callers), requests
        assert requests["admitted"] == requests["completed"] and requests["in_flight"] == 0, requests

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop.set()
        if error == (None, None, None):
            self.end()
        for c in self.callers:
            c.join()


def restart(d, stage="gateway"):
    result = d.cli("restart", stage)
    assert result.returncode == 0, result.stderr


def has_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def arenas(d):
    return sum(".arena." in name for name in shm_objects(d.instance))


# ---- planned -----------------------------------------------------------------------------------------------


def test_a_gateway_is_replaced_again_and_again_under_load_and_no_request_notices(daemon):
    d = daemon(echo(gap_ms=2, lanes=2))
    pids = [d.pid("gateway")]
    with Load(d, fresh=12, kept=6) as load:
        for n in range(1, 3):
            load.runs()
            restart(d)
            place = d.place("gateway")
            assert place["index"] == 0 and place["restarts"] == n and place["pid"] not in pids
            pids.append(place["pid"])
        load.runs()
    wait_for("the old ones to leave", lambda: all(has_gone(pid) for pid in pids[:-1]))
    wait_for("one arena", lambda: arenas(d) == 1)
    assert len(d.status()["gateways"]) == 1 and d.place("gateway")["last_exit"] == "exit 0"


def test_two_gateways_are_replaced_one_after_the_other_under_load(daemon):
    d = daemon(echo(gap_ms=2, lanes=2, gateways=2))
    with Load(d, fresh=8, kept=4) as load:
        load.runs()
        restart(d)
        load.runs()
    assert [g["restarts"] for g in d.status()["gateways"]] == [1, 1]


def test_all_is_replaced_in_a_loop_under_load(daemon):
    d = daemon(echo(gap_ms=2, lanes=2))
    with Load(d, fresh=6, kept=4) as load:
        for _ in range(2):
            load.runs()
            restart(d, "all")
        load.runs()
    status = d.status()
    assert {s["restarts"] for lane in status["lanes"] for s in lane["stages"]} == {2}
    assert status["gateways"][0]["restarts"] == 2


def test_a_reload_under_load_fails_no_request(daemon, tmp_path):
    config = "rag: {{ top_k: {k} }}\nstream: {{ response_ttl_s: {ttl}, gateway_grace_ms: {ttl} }}\n"
    d = daemon(echo(gap_ms=2, lanes=2), config=config.format(k=5, ttl=600))
    path = os.path.join(d.directory, "millrace.yaml")
    with Load(d, fresh=6, kept=4) as load:
        for n in range(1, 3):
            load.runs()
            with open(path, "w") as f:
                f.write(config.format(k=5 + n, ttl=600 + n))
            result = d.cli("reload")
            assert result.returncode == 0, result.stderr
        load.runs()
    assert [d.place(stage)["restarts"] for stage in ("rag", "stream", "gateway")] == [2, 2, 2]


def test_a_gateway_is_replaced_where_dev_shm_has_64_mib(daemon):
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespaces here")
    d = Daemon({**echo(gap_ms=2), "lanes": 2}, directory=None)
    d.command = [*alone, *d.command]
    d.start()
    try:
        with Load(d, fresh=4, kept=2) as load:
            for _ in range(2):
                load.runs()
                restart(d)
        assert "has no room for a second one yet" in d.log()
        text = "w" * 2_000_000  # an eighth of an arena, in one that was thin
        assert text_of(d.client().submit("large", prompt=text)) == text
    finally:
        d.finish()


def test_a_lone_client_that_comes_just_then_is_answered(daemon):
    """Nobody else connects, who would wake whoever accepts."""
    d = daemon(echo())
    control = Client(f"{d.socket}.ctl")
    for n in range(20):
        control.send(op="restart", stage="gateway")
        assert control.next()["ok"]
        c = d.client()
        assert text_of(c.submit(str(n), prompt="here I am")) == "here I am"
        c.close()
    control.close()


def test_an_old_connection_ends_when_its_last_answer_has(daemon):
    d = daemon(echo(gap_ms=100))
    old = d.pid("gateway")
    busy, idle = d.client(), d.client()
    prompt = "w " * 16
    busy.send(op="submit", id="long", prompt=prompt)
    busy.wait(lambda e: e["ev"] == "delta")
    idle.send(op="ping")
    assert idle.next() == {"ev": "pong"}
    restart(d)
    assert idle.next() is None
    events = busy.events("long")
    assert events[-1]["ev"] == "done" and check_sequence(events, after=1) == 17
    assert busy.next() is None
    wait_for("the old one to leave", lambda: has_gone(old))


def test_submit_and_result_go_on_through_restarts(daemon):
    d = daemon(echo(gap_ms=100))
    text = "a b c d e f g h i j k l m n o p q r s t"
    process = subprocess.Popen([MILLRACE, "submit", "--detach", "--id", "job", text], env=d.env)
    assert process.wait(60) == 0
    waiting = [subprocess.Popen([MILLRACE, *arguments], env=d.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True) for arguments in (["result", "--wait", "job"], ["submit", text])]
    restart(d)
    d.kill("gateway")
    for process in waiting:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert out == text + "\n"


def at_successor(d):
    """A connection that the gateway which has the place took; the old one may still take those of that moment."""
    c = d.client()
    c.send(op="ping")
    if c.next() and d.status()["gateways"][0]["connections"] == 1:
        return c
    c.close()
    return None


def test_one_id_at_two_gateways_at_once_runs_once(daemon):
    d = daemon(echo(lanes=2))
    ids = []
    for round in range(3):
        old = d.client()
        old.send(op="ping")
        old.next()
        restart(d)
        new = wait_for("a connection to the successor", lambda: at_successor(d))
        batch = [f"{round}-{n}" for n in range(40)]
        try:
            for order, client in ((batch, new), (batch[::-1], old)):
                client.raw(b"".join(packed(i) for i in order))
        except LOST:
            pass  # we were slow, and the old gateway had closed: then the new one has them alone
        for i in batch:
            events = new.events(i)
            assert [e["ev"] for e in events if e["ev"] in ("done", "error")] == ["done"], events
            assert text_of(events) == f"words of {i}"
        for i in batch:
            events = old.events(i)
            assert not events or old.closed or text_of(events) == f"words of {i}"
        ids += batch
    requests = d.status()["requests"]
    assert requests["admitted"] <= len(ids) and requests["failed"] == 0, requests


def packed(id):
    return msgpack.packb({"op": "submit", "id": id, "prompt": f"words of {id}"})


# ---- killed meanwhile --------------------------------------------------------------------------------------


def test_gateways_that_are_killed_during_a_restart_lose_nothing(daemon):
    d = daemon(echo(gap_ms=20, lanes=2, **{"stream.gateway_grace_ms": 60000}))
    with Load(d, tough=12) as load:
        for n in range(2):
            load.runs()
            old = d.pid("gateway")
            restart(d)
            os.kill(old if n % 2 == 0 else d.pid("gateway"), signal.SIGKILL)
            wait_for("a gateway", lambda: d.place("gateway")["state"] == "ready")
        load.runs()
    wait_for("the slot to be empty", lambda: arenas(d) == 1)


@pytest.mark.parametrize("point", ["in_recovery", "before_ready", "after_commit"])
def test_a_successor_that_dies_at_its_start_is_tried_again(daemon, point):
    d = daemon(echo(gap_ms=5, **{"stream.gateway_grace_ms": 60000}),
               env={"MILLRACE_FAULT": f"gateway:{point}:kill:count=1"})
    with Load(d, tough=4) as load:
        load.runs()
        restart(d)
        load.runs()


def test_a_supervisor_that_is_killed_during_a_restart_is_adopted_with_both_gateways(daemon):
    d = daemon(echo(delay_ms=2500, **{"stream.gateway_grace_ms": 60000}))
    texts = {name: f"{name} " + "w " * 4000 for name in ("first", "second")}  # in the arenas
    first = d.client()
    first.send(op="submit", id="first", prompt=texts["first"])
    assert first.next()["ev"] == "accepted"
    old = d.pid("gateway")
    restart(d)
    second = wait_for("a connection to the successor", lambda: at_successor(d))
    second.send(op="submit", id="second", prompt=texts["second"])
    assert second.next()["ev"] == "accepted"
    assert not has_gone(old) and arenas(d) == 2
    pids = [s["pid"] for lane in d.status()["lanes"] for s in lane["stages"]] + [d.pid("gateway"), old]
    d.process.kill()
    d.process.wait()
    wait_for("the workers to end", lambda: all(has_gone(pid) for pid in pids))
    d.start()
    reader = d.client()
    for name, text in texts.items():
        reader.send(op="attach", id=name)
        events = reader.events(name)
        assert events[-1]["ev"] == "done" and text_of(events) == text
    wait_for("the extra slot to be empty", lambda: arenas(d) == 1)
    restart(d)
    assert text_of(d.client().submit("third", prompt="fine")) == "fine"


# ---- the grace ---------------------------------------------------------------------------------------------


def status_of(d, id):
    c = d.client()
    c.send(op="result", id=id)
    return c.next()["status"]


def test_a_client_that_does_not_come_back_is_cancelled_after_the_grace(daemon):
    with Backend() as b:
        patient = {"connect_ms": 60000, "first_token_ms": 60000, "idle_ms": 60000, "total_ms": 120000}
        d = behind(daemon, b, patient, **{"stream.gateway_grace_ms": 300})
        c = d.client()
        c.send(op="submit", id="gone", prompt="@stall_after_one")
        c.wait(lambda e: e["ev"] == "delta")
        c.send(op="submit", id="detached", prompt="@stall_after_one", detach=True)
        wait_for("both to run", lambda: len(b.log()) == 2)
        d.kill("gateway")
        c.close()
        wait_for("the backend's connection to end", lambda: [e for e in b.log() if e["ended"] == "client"])
        wait_for("its end", lambda: status_of(d, "gone") == "cancelled")
        assert status_of(d, "detached") == "running"
        assert [e["ended"] for e in b.log() if e["ended"]] == ["client"]
        assert d.status()["requests"]["cancelled"] == 1
        d.cli("cancel", "detached")


def test_with_on_disconnect_detach_nobody_is_cancelled(daemon):
    d = daemon(echo(gap_ms=100, **{"stream.gateway_grace_ms": 100, "stream.on_disconnect": "detach"}))
    c = d.client()
    c.send(op="submit", id="left", prompt="w " * 12)
    c.wait(lambda e: e["ev"] == "delta")
    d.kill("gateway")
    c.close()
    wait_for("its end", lambda: status_of(d, "left") == "completed")


def test_who_reads_through_another_gateway_when_the_first_one_dies_is_not_cancelled(daemon):
    d = daemon(echo(gap_ms=200, **{"stream.gateway_grace_ms": 200}))
    old = d.pid("gateway")
    c = d.client()
    prompt = "w " * 20
    c.send(op="submit", id="moved", prompt=prompt)
    first = [c.wait(lambda e: e["ev"] == "delta")]
    restart(d)
    reader = wait_for("a connection to the successor", lambda: at_successor(d))
    reader.send(op="attach", id="moved", after=first[0]["seq"])
    rest = [reader.next()]
    os.kill(old, signal.SIGKILL)  # it closes; its successor in the slot closes on
    rest += reader.events("moved")
    assert rest[-1]["ev"] == "done", rest[-1]
    check_sequence(first + rest)
    assert text_of(first + rest) == prompt
    wait_for("the slot to be empty", lambda: arenas(d) == 1)
    assert d.status()["requests"]["cancelled"] == 0
