"""What a death costs when restarting one process does not help: a lane is down, a lane is reset, the daemon ends."""

import itertools
import json
import mmap
import os
import random
import re
import signal
import subprocess
import urllib.error
import urllib.request
import uuid

import pytest

from conftest import DEADLINE, MILLRACE, check_sequence, echo, shm_objects, text_of, wait_for

STAGES = ["rag", "assemble", "inference", "post", "stream"]


FAULTS = "faults: on" in subprocess.run([MILLRACE, "--version"], capture_output=True, text=True).stdout
needs_faults = pytest.mark.skipif(not FAULTS, reason="built without -Dfaults=true")
LONG = "word " * 300  # at 60 ms a word it runs as long as a test needs it to


def sessions(client):
    """A session for each of two lanes."""
    found = {}
    for n in itertools.count():
        if len(found) == 2:
            return found
        client.send(op="submit", id=f"find-{n}", session=f"s{n}", prompt="x")
        found.setdefault(client.wait(lambda e: e["ev"] == "accepted")["lane"], f"s{n}")
        client.events(f"find-{n}")


def readiness(d):
    """Status and body of /readyz, as anybody sees them."""
    try:
        with urllib.request.urlopen(f"http://{d.http()[0]}/readyz", timeout=DEADLINE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        assert error.headers["Retry-After"] == "1"
        return error.code, json.load(error)


def descriptors(d):
    status = d.status()
    pids = {"supervisor": status["pid"], "gateway": status["gateways"][0]["pid"]}
    for lane in status["lanes"]:
        pids.update({f"{s['stage']}.{lane['lane']}": s["pid"] for s in lane["stages"]})
    return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()}


def ends_of(events):
    return [e for e in events if e["ev"] in ("done", "error")]


def submit_many(client, session, n, prompt=None, **more):
    ids = [str(uuid.uuid4()) for _ in range(n)]
    for i in ids:
        client.send(op="submit", id=i, session=session, prompt=prompt or f"some words to be said by {i}", **more)
    for i in ids:
        accepted = client.wait(lambda e: e.get("id") == i and e["ev"] in ("accepted", "error"))
        assert accepted["ev"] == "accepted", accepted
    return ids


def words_come(client):
    client.mail.insert(0, client.wait(lambda e: e["ev"] == "delta"))


def expect_done(client, ids):
    for i in ids:
        events = client.events(i)
        assert len(ends_of(events)) == 1 and events[-1]["ev"] == "done", events
        check_sequence(events)
        assert text_of(events) == f"some words to be said by {i}"


def expect_lost(client, ids):
    for i in ids:
        events = client.events(i)
        assert len(ends_of(events)) == 1, events
        check_sequence(events)
        assert events[-1]["code"] == "internal" and events[-1]["status"] == 500, events[-1]
        assert not events[-1]["retryable"]


def lane_was_reset(d, lane, resets=1):
    def back():
        status = d.status()
        place = status["lanes"][lane]
        return (place["resets"] == resets and place["state"] == "running" and status["state"] == "running"
                and all(s["state"] == "ready" for s in place["stages"])) and place
    return wait_for(f"lane {lane} to be reset", back)


@needs_faults
@pytest.mark.parametrize("stage", ["rag", "inference", "stream"])
def test_exit_71_resets_the_lane_and_nothing_else(daemon, stage):
    d = daemon(echo(gap_ms=60, lanes=2), env={"MILLRACE_FAULT": f"{stage}:on_record:exit=71:match=POISON:count=1"})
    c, other = d.client(), d.client()
    session = sessions(c)
    before = d.status()
    d.wait_standbys()
    open_descriptors, objects = descriptors(d), shm_objects(d.instance)
    kept = submit_many(other, session[1], 20)
    lost = submit_many(c, session[0], 20, LONG)
    words_come(c)
    poison = str(uuid.uuid4())
    c.send(op="submit", id=poison, session=session[0], prompt="some POISON words")
    expect_lost(c, [poison])
    expect_lost(c, lost)
    place = lane_was_reset(d, 0)
    expect_done(other, kept)
    expect_done(c, submit_many(c, session[0], 5))
    expect_done(other, submit_many(other, session[1], 5))
    after = d.status()
    assert after["lanes"][1]["resets"] == 0
    assert [s["pid"] for s in after["lanes"][1]["stages"]] == [s["pid"] for s in before["lanes"][1]["stages"]]
    assert after["gateways"][0]["pid"] == before["gateways"][0]["pid"]
    assert all(s["restarts"] == 1 for s in place["stages"])
    assert next(s for s in place["stages"] if s["stage"] == stage)["last_exit"] == "exit 71"
    requests = after["requests"]
    assert requests["failed"] == 21 and requests["in_flight"] == 0
    assert requests["admitted"] == requests["completed"] + 21
    assert after["lanes"][0]["in_flight"] == after["lanes"][1]["in_flight"] == 0
    # A control connection may still be closing in either count.
    wait_for("no descriptor more than before", lambda: all(
        n <= open_descriptors[who] for who, n in descriptors(d).items()))
    assert shm_objects(d.instance) == objects
    c.send(op="result", id=lost[0])
    assert c.wait(lambda e: e.get("id") == lost[0])["code"] == "not_found"
    assert d.stop() == 0
    assert shm_objects(d.instance) == []


@needs_faults
def test_three_crashes_in_recovery_reset_the_lane(daemon):
    faults = ",".join(f"post:in_recovery:abort:match=#{n}:count=1" for n in (2, 3, 4))
    d = daemon(echo(gap_ms=60, lanes=2), env={"MILLRACE_FAULT": faults})
    c, other = d.client(), d.client()
    session = sessions(c)
    kept = submit_many(other, session[1], 5)
    lost = submit_many(c, session[0], 5, LONG)
    d.kill("post", 0)
    expect_lost(c, lost)
    lane_was_reset(d, 0)
    assert "why=\"crashes in recovery\"" in d.log()
    expect_done(other, kept)
    expect_done(c, submit_many(c, session[0], 5))


@needs_faults
def test_a_second_reset_within_ten_minutes_ends_the_daemon(daemon):
    d = daemon(echo(lanes=2), env={"MILLRACE_FAULT": "assemble:on_record:exit=71:match=POISON"})
    c = d.client()
    session = sessions(c)
    assert c.submit("first", session=session[0], prompt="POISON")[-1]["code"] == "internal"
    lane_was_reset(d, 0)
    assert text_of(c.submit("between", session=session[0], prompt="fine")) == "fine"
    c.send(op="submit", id="second", session=session[1], prompt="POISON")
    assert d.process.wait(60) == 1
    events = c.events("second")
    assert len(ends_of(events)) <= 1
    lines = re.findall(r"^error .*ev=escalate .*", d.log(), re.M)
    assert len(lines) == 1 and "the daemon ends" in lines[0] and "stage=assemble" in lines[0], d.log()
    assert shm_objects(d.instance) == []


@needs_faults
def test_a_crash_loop_refuses_what_needs_the_lane_and_nothing_else(daemon):
    d = daemon(echo(gap_ms=20, lanes=2, **{"supervisor.restart_burst": 2, "admission.max_in_flight": 4}),
               env={"MILLRACE_FAULT": "assemble:on_record:exit:match=POISON:count=3"})
    c, other = d.client(), d.client()
    session = sessions(c)
    c.send(op="submit", id="poison", session=session[0], prompt="POISON and more")
    wait_for("the lane to be down", lambda: d.status()["lanes"][0]["state"] == "down")
    status = d.status()
    assert status["state"] == "degraded" and status["lanes"][1]["state"] == "running"
    assert next(s for s in status["lanes"][0]["stages"] if s["stage"] == "assemble")["state"] == "down"
    assert readiness(d) == (503, {"status": "unavailable", "reasons": [
        "a stage is down in lane 0", "assemble is not ready in lane 0"]})
    refused = c.submit("refused", session=session[0], prompt="x")[-1]
    assert refused["code"] == "overloaded" and refused["status"] == 503 and refused["retryable"], refused
    assert refused["retry_after_ms"] == 30000 and "seq" not in refused
    expect_done(other, submit_many(other, session[1], 4))
    for n in range(10):  # no session, no id: whichever lane runs
        other.send(op="submit", prompt="anywhere")
        assert other.wait(lambda e: e["ev"] == "accepted")["lane"] == 1
        assert other.wait(lambda e: e["ev"] in ("done", "error"))["ev"] == "done"
    assert d.status()["requests"]["shed"] == 1
    result = d.cli("restart", "assemble", "--lane", "0")
    assert result.returncode == 0, result.stderr
    events = c.events("poison")  # it was in flight all the time
    assert events[-1]["ev"] == "done" and text_of(events) == "POISON and more"
    wait_for("the daemon to be whole", lambda: d.status()["state"] == "running")
    assert readiness(d) == (200, {"status": "ready", "reasons": []})
    expect_done(c, submit_many(c, session[0], 4))
    assert d.status()["lanes"][0]["resets"] == 0


@needs_faults
def test_nothing_is_ready_while_one_stage_is_not_or_the_daemon_drains(daemon):
    d = daemon(echo(gap_ms=100, lanes=2), env={"MILLRACE_FAULT": "post:in_recovery:sleep=2000:match=#2:count=1"})
    assert readiness(d)[0] == 200
    d.kill("post", 1)
    wait_for("a reason", lambda: readiness(d) == (503, {"status": "unavailable", "reasons": [
        "post is not ready in lane 1"]}))
    wait_for("it to be back", lambda: readiness(d) == (200, {"status": "ready", "reasons": []}))
    c = d.client()
    c.send(op="submit", id="open", prompt=LONG)
    words_come(c)
    os.kill(d.status()["pid"], signal.SIGTERM)
    wait_for("the drain", lambda: readiness(d)[1]["reasons"][:1] == ["draining"])
    os.kill(d.status()["pid"], signal.SIGTERM)
    assert c.events("open")[-1]["code"] == "draining"


@needs_faults
def test_who_waits_at_the_door_of_a_lane_that_goes_down_is_told(daemon):
    d = daemon(echo(gap_ms=100, lanes=1, **{"supervisor.restart_burst": 1, "admission.max_in_flight": 2,
                                           "admission.queue_timeout_ms": 60000}),
               env={"MILLRACE_FAULT": "post:on_record:abort:match=POISON:count=2"})
    c, waiting = d.client(), d.client()
    c.send(op="submit", id="open", prompt="w " * 40)
    words_come(c)
    c.send(op="submit", id="poison", prompt="a b c d e f POISON g")
    c.wait(lambda e: e["ev"] == "accepted" and e["id"] == "poison")
    waiting.send(op="submit", id="waits", prompt="x")
    told = waiting.wait(lambda e: e["ev"] != "accepted")
    assert told["code"] == "overloaded" and told["id"] == "waits", told
    assert d.status()["lanes"][0]["state"] == "down"
    assert d.cli("restart", "post").returncode == 0
    assert text_of(c.events("poison")) == "a b c d e f POISON g"
    assert text_of(c.events("open")) == "w " * 40


def scribble(d, ring, seed):
    """As its producer could: random bits in the control words and the descriptors."""
    path = f"/dev/shm/millrace.{os.getuid()}.{d.instance}.ring.{ring}.p"
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as page:
        n = min(len(page), 65536)
        page[0:n] = random.Random(seed).randbytes(n)


def rings_of_lane(lane, gateways=2):
    """Ring numbers by what they carry: topology.h says in which order they come."""
    each = [str(g) for g in range(gateways)]
    names = ["gateway" + g for g in each] + STAGES[1:] + ["cancel" + g for g in each] + ["cancel-post"]
    names += ["notice" + g for g in each] + ["lookup" + g for g in each]
    return dict(zip(names, range(lane * len(names) + 1, (lane + 1) * len(names) + 1)))


@pytest.mark.parametrize("ring, writer, reader", [
    ("gateway0", "gateway", "rag"), ("assemble", "rag", "assemble"), ("post", "inference", "post"),
    ("cancel-post", "post", "inference"), ("notice0", "stream", "gateway")])
def test_random_bits_in_a_ring_make_its_reader_stop_and_the_lane_is_reset(daemon, ring, writer, reader):
    d = daemon(echo(gap_ms=60, lanes=2, **{"stream.gateway_grace_ms": 60000}))
    c, other = d.client(), d.client()
    session = sessions(c)
    kept = submit_many(other, session[1], 10)
    lost = submit_many(c, session[0], 10, LONG)
    words_come(c)
    pid = d.pid(writer)
    os.kill(pid, signal.SIGSTOP)  # it does nothing else any more
    scribble(d, rings_of_lane(0)[ring], ring)
    wait_for("the reader to stop", lambda: re.search(rf"ev=death stage={reader} .*last_exit=\"exit 71\"", d.log()))
    if writer == "gateway":
        os.kill(pid, signal.SIGCONT)  # that it lets go of the lane
    lane_was_reset(d, 0)
    assert not re.search(r"last_exit=\"signal (?!9\")", d.log()), d.log()
    if reader == "gateway":  # its connections died with it; what the other lane ran can be read again
        c = other = d.client()
        for i in kept:
            other.send(op="attach", id=i, after=0)
        expect_done(other, kept)
        c.send(op="attach", id=lost[0], after=0)
        assert c.wait(lambda e: e.get("id") == lost[0])["code"] == "not_found"
    else:
        expect_lost(c, lost)
        expect_done(other, kept)
    expect_done(c, submit_many(c, session[0], 5))
    expect_done(other, submit_many(other, session[1], 5))
    requests = d.status()["requests"]
    assert requests["failed"] == 10 and requests["in_flight"] == 0
    assert d.status()["lanes"][1]["resets"] == 0
    assert d.stop() == 0
    assert shm_objects(d.instance) == []


def test_a_supervisor_killed_in_a_reset_leaves_it_to_its_successor(daemon):
    d = daemon(echo(gap_ms=60, lanes=2))
    c = d.client()
    session = sessions(c)
    lost = submit_many(c, session[0], 5, LONG, detach=True)
    kept = submit_many(c, session[1], 5, detach=True)
    os.kill(d.pid("gateway"), signal.SIGSTOP)  # so that it does not let go of the lane
    os.kill(d.pid("rag"), signal.SIGSTOP)
    scribble(d, rings_of_lane(0)["assemble"], "supervisor")
    wait_for("the reset", lambda: d.status()["lanes"][0]["state"] == "resetting")
    d.process.kill()
    d.process.wait()
    d.start()
    assert "repeated" in d.log()
    lane_was_reset(d, 0)
    c = d.client()
    for i in kept:
        c.send(op="attach", id=i, after=0)
        events = c.events(i)
        assert len(ends_of(events)) == 1, events
        assert events[-1]["ev"] == "done" or events[-1]["code"] == "worker_restarted", events
    for i in lost:
        c.send(op="result", id=i)
        assert c.wait(lambda e: e.get("id") == i)["code"] == "not_found"
    expect_done(c, submit_many(c, session[0], 5))
    assert d.status()["requests"]["failed"] >= 5
