"""Requests wait in one place, in bounded number; the rest are refused at once."""

import time
import uuid

from conftest import echo, wait_for


def rss_of(status):
    return sum(s["rss_bytes"] for lane in status["lanes"] for s in lane["stages"])


def test_the_door_holds_its_number_and_refuses_the_rest(daemon):
    d = daemon(echo(gap_ms=60000, lanes=1, **{"admission.max_in_flight": 4, "admission.queue": 8,
                                              "admission.queue_timeout_ms": 60000}))
    c = d.client()
    ids = [str(uuid.uuid4()) for _ in range(20)]
    for i in ids:
        c.send(op="submit", id=i, prompt="a b")
    accepted = [c.wait(lambda e: e["ev"] == "accepted")["id"] for _ in range(4)]
    refused = [c.wait(lambda e: e["ev"] == "error") for _ in range(8)]
    assert accepted == ids[:4]
    assert [e["id"] for e in refused] == ids[12:]
    for e in refused:
        assert e["code"] == "overloaded" and e["status"] == 503 and e["retryable"] is True
        assert e["retry_after_ms"] > 0 and "seq" not in e
    for n, i in enumerate(ids[:4]):  # each place that is freed lets the next one in, in order
        c.send(op="cancel", id=i)
        assert c.wait(lambda e: e["ev"] == "accepted")["id"] == ids[4 + n]
    status = d.status()
    assert status["requests"]["shed"] == 8 and status["requests"]["in_flight"] == 4
    c.close()
    wait_for("the cancels", lambda: d.status()["requests"]["in_flight"] == 0)


def test_who_waits_too_long_at_the_door_is_refused(daemon):
    d = daemon(echo(gap_ms=60000, lanes=1, **{"admission.max_in_flight": 1, "admission.queue_timeout_ms": 300}))
    c = d.client()
    c.send(op="submit", id=str(uuid.uuid4()), prompt="a b")
    assert c.next()["ev"] == "accepted"
    events = c.submit("waits", prompt="x")
    assert [e["code"] for e in events if e["ev"] == "error"] == ["overloaded"]


def test_priorities_overtake_at_the_door(daemon):
    d = daemon(echo(gap_ms=60000, lanes=1, **{"admission.max_in_flight": 1, "admission.queue_timeout_ms": 60000}))
    c = d.client()
    c.send(op="submit", id="first", prompt="a b")
    c.wait(lambda e: e["ev"] == "accepted")
    for name in ("bulk", "default", "interactive", "system"):
        c.send(op="submit", id=name, prompt="a b", priority=name)
    order, running = [], "first"
    for _ in range(4):
        c.send(op="cancel", id=running)
        running = c.wait(lambda e: e["ev"] == "accepted")["id"]
        order.append(running)
    assert order == ["system", "interactive", "default", "bulk"]


def test_memory_stays_flat_under_overload(daemon):
    d = daemon(echo(gap_ms=1, lanes=1, **{"admission.max_in_flight": 8, "admission.queue": 16}))
    c = d.client()
    sizes = []

    def press(rounds):
        for _ in range(rounds):
            ids = [str(uuid.uuid4()) for _ in range(100)]
            for i in ids:
                c.send(op="submit", id=i, prompt="some words to carry " * 20)
            for i in ids:
                assert c.events(i)[-1]["ev"] in ("done", "error")

    end = time.monotonic() + 5
    while time.monotonic() < end or len(sizes) < 6:
        press(3)
        sizes.append(rss_of(d.status()))
    settled = sizes[len(sizes) // 2]
    assert sizes[-1] <= settled + 2 * 1024 * 1024, sizes


def test_200_answers_are_open_at_once_on_one_lane(daemon):
    d = daemon(echo(gap_ms=5000, lanes=1))  # before the second word: who is slow to start has all that time
    c = d.client()
    ids = [str(uuid.uuid4()) for _ in range(200)]
    for i in ids:
        c.send(op="submit", id=i, prompt=f"start {i}")
    first_done = None
    started = set()
    while first_done is None:
        event = c.next()
        if event["ev"] == "delta":
            started.add(event["id"])
        elif event["ev"] == "done":
            first_done = event["id"]
            c.mail.append(event)
    assert len(started) == 200, "all were open before the first one ended"
