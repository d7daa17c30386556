"""A request that a stage has died of three times is given up: its client hears so, and nobody else notices."""

import re
import signal
import subprocess

import pytest

from conftest import MILLRACE, check_sequence, echo, text_of, wait_for
from ledger import Echo, Kept, Ledger

STAGES = ["rag", "assemble", "inference", "post", "stream"]
FAULTS = "faults: on" in subprocess.run([MILLRACE, "--version"], capture_output=True, text=True).stdout
pytestmark = pytest.mark.skipif(not FAULTS, reason="built without -Dfaults=true")
POISON = "some words, then POISON, and more"


def fault(*specs):
    return {"MILLRACE_FAULT": ",".join(specs)}


def ends_as_dead_letter(events, stage):
    check_sequence(events)
    assert [e["ev"] for e in events if e["ev"] in ("done", "error")] == ["error"], events
    end = events[-1]
    assert (end["code"], end["status"], end["retryable"]) == ("dead_letter", 500, False), end
    assert end["message"] == f"{stage} died 3 times with this request at hand"
    assert text_of(events) == "" or POISON.startswith(text_of(events)), events


@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("stage", STAGES)
def test_poison_is_given_up_and_others_lose_nothing(daemon, stage, detach):
    d = daemon(echo(gap_ms=2, lanes=1), env=fault(f"{stage}:on_record:segv:match=POISON"))
    ledger = Ledger(d, 1, [Echo(), Kept()], lines=2)
    client = d.client()
    for n in range(1, 4):  # nine deaths: more than restart_burst
        ledger.keep(30)
        ledger.step(0.05)
        client.send(op="submit", id=f"bad-{n}", prompt=POISON, detach=detach)
        if detach:
            client.wait(lambda e: e["ev"] == "accepted")
            client.send(op="attach", id=f"bad-{n}", after=0)

        def given_up():
            ledger.keep(30)
            ledger.step(0.05)
            return d.status()["requests"]["dead_letters"] == n

        wait_for("the dead letter", given_up, pause=0)
        ends_as_dead_letter(client.events(f"bad-{n}"), stage)
    ledger.finish()
    assert ledger.wrong == []
    assert set(ledger.ended) <= ({"done", "worker_restarted"} if stage == "inference" else {"done"})
    place = d.place(stage)
    assert (place["state"], place["restarts"], place["last_exit"]) == ("ready", 9, "signal 11")
    status = d.status()
    assert status["state"] == "running" and status["lanes"][0]["resets"] == 0
    assert status["requests"]["in_flight"] == 0
    assert status["requests"]["failed"] == 3 + ledger.ended["worker_restarted"]
    assert len(re.findall(rf"^error stage={stage} .*ev=dead_letter .*strikes=3 signal=11", d.log(), re.M)) == 3, d.log()
    assert "ev=down" not in d.log()
    # The id is remembered: what it ended in is told again, and nothing runs.
    ends_as_dead_letter(d.client().submit("bad-1", prompt=POISON), stage)
    assert d.place(stage)["restarts"] == 9


@pytest.mark.parametrize("stage", STAGES)
def test_a_request_with_fewer_strikes_is_done_after_all(daemon, stage):
    d = daemon(echo(lanes=1), env=fault(f"{stage}:on_record:abort:match=POISON:count=2"))
    events = d.client().submit("hard", prompt=POISON)
    assert events[-1]["ev"] == "done" and text_of(events) == POISON
    assert d.place(stage)["restarts"] == 2
    assert d.status()["requests"]["dead_letters"] == 0


def test_a_stage_that_dies_of_everything_goes_down(daemon):
    d = daemon(echo(lanes=1, **{"supervisor.restart_burst": 3}), env=fault("assemble:on_record:segv"))
    client = d.client()
    for n in range(6):
        client.send(op="submit", id=f"r{n}", prompt="anything")
    wait_for("the lane to be down", lambda: d.status()["lanes"][0]["state"] == "down")
    assert 3 <= d.status()["requests"]["dead_letters"] <= 5
    assert "too many at once" in d.log()
    d.process.send_signal(signal.SIGTERM)  # the second one, when the test is over, does not wait for the lane
    wait_for("the drain", lambda: "ev=drain" in d.log())
