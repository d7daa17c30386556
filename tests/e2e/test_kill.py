"""kill -9 at any time: one process is replaced, nothing is lost, nothing comes twice."""

import os
import signal
import uuid

import pytest

from conftest import check_sequence, echo, shm_objects, text_of, wait_for

STAGES = ["rag", "assemble", "inference", "post", "stream"]


def one_end(events):
    return [e["ev"] for e in events].count("done") + [e["ev"] for e in events].count("error") == 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_with_200_requests_in_flight(daemon, stage):
    d = daemon(echo(gap_ms=30, lanes=1, **{"admission.max_in_flight": 256}))
    before = {s["stage"]: s for s in d.status()["lanes"][0]["stages"]}
    c = d.client()
    ids = [str(uuid.uuid4()) for _ in range(200)]
    prompts = {i: f"request {i} has some words to say" for i in ids}
    for i in ids:
        c.send(op="submit", id=i, prompt=prompts[i])
    c.wait(lambda e: e["ev"] == "accepted" and e["id"] == ids[100])
    killed = before[stage]["pid"]
    os.kill(killed, signal.SIGKILL)
    for i in ids:
        events = c.events(i)
        assert one_end(events), events
        check_sequence(events)
        last = events[-1]
        if last["ev"] == "done":
            assert text_of(events) == prompts[i]
        else:
            assert stage == "inference" and last["code"] == "worker_restarted", last
            assert any(e["ev"] == "delta" for e in events), "nothing was emitted: it must end in done"
            assert prompts[i].startswith(text_of(events))
    d.wait_ready(stage, 0, killed)
    after = {s["stage"]: s for s in d.status()["lanes"][0]["stages"]}
    for other in STAGES:
        assert (after[other]["pid"] != before[other]["pid"]) == (other == stage)
    assert after[stage]["restarts"] == 1 and after[stage]["last_exit"] == "signal 9"
    requests = d.status()["requests"]
    assert requests["admitted"] == 200 and requests["in_flight"] == 0
    assert requests["completed"] + requests["failed"] + requests["cancelled"] == 200
    if stage == "stream":
        read_again(d, prompts)


def read_again(d, prompts):
    """Answers that have ended are kept over another death, and are read as they were."""
    killed = d.pid("stream", 0)
    os.kill(killed, signal.SIGKILL)
    c = d.client()
    for i in prompts:
        c.send(op="attach", id=i)
    for i, prompt in prompts.items():
        events = c.events(i)
        check_sequence(events)
        assert events[-1]["ev"] == "done" and text_of(events) == prompt
    d.wait_ready("stream", 0, killed)


def test_every_stage_killed_again_and_again_under_load(daemon):
    d = daemon(echo(gap_ms=2, lanes=2))
    c = d.client()
    ids = []
    for round in range(20):
        batch = [str(uuid.uuid4()) for _ in range(20)]
        for i in batch:
            c.send(op="submit", id=i, prompt=f"round {round} of {i}", session=i)
        ids += [(i, f"round {round} of {i}") for i in batch]
        try:
            os.kill(d.pid(STAGES[round % 5], round % 2), signal.SIGKILL)
        except ProcessLookupError:
            pass
    for i, prompt in ids:
        events = c.events(i)
        assert one_end(events), (i, events)
        check_sequence(events)
        if events[-1]["ev"] == "done":
            assert text_of(events) == prompt
        else:
            assert events[-1]["code"] == "worker_restarted"


def test_a_killed_gateway_loses_no_event(daemon):
    d = daemon(echo(gap_ms=250, **{"stream.gateway_grace_ms": 60000}))
    c, killed = d.client(), d.pid("gateway")
    prompt = "one two three four five six seven eight nine ten eleven twelve"
    c.send(op="submit", id="g", prompt=prompt)
    c.wait(lambda e: e["ev"] == "delta")
    os.kill(killed, signal.SIGKILL)
    assert c.wait(lambda e: e["ev"] == "done") is None  # its connection died
    d.wait_ready("gateway", 0, killed)
    full = d.client()
    full.send(op="attach", id="g", after=0)
    events = full.events("g")
    assert text_of(events) == prompt and events[-1]["ev"] == "done"
    check_sequence(events)
    again = d.client()
    again.send(op="attach", id="g", after=0)
    assert again.events("g") == events or text_of(again.events("g")) == text_of(events)
    assert d.status()["requests"]["admitted"] == 1


def test_submit_survives_the_gateways_death(daemon):
    d = daemon(echo(gap_ms=50, **{"stream.gateway_grace_ms": 60000}))
    import subprocess
    from conftest import MILLRACE
    process = subprocess.Popen([MILLRACE, "submit", "--id", "cli", "a b c d e f g h i j k l m n o p"], env=d.env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    c = d.client()

    def running():
        c.send(op="result", id="cli")
        return c.next()["ev"] == "result"

    wait_for("the request to run", running)
    d.kill("gateway")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "a b c d e f g h i j k l m n o p\n"


def test_telemetry_may_die_unnoticed(daemon, tmp_path):
    d = daemon(echo(**{"telemetry.listen": f"unix:{tmp_path}/metrics.sock"}))
    killed = d.kill("telemetry")
    assert text_of(d.client().submit("t", prompt="still here")) == "still here"
    d.wait_ready("telemetry", 0, killed)


def test_sigterm_under_load_finishes_what_was_admitted(daemon):
    d = daemon(echo(gap_ms=150))
    c, late = d.client(), d.client()
    ids = [str(uuid.uuid4()) for _ in range(50)]
    for i in ids:
        c.send(op="submit", id=i, prompt="w " * 30)
    for i in ids:
        c.wait(lambda e: e["ev"] == "accepted" and e["id"] == i)
    d.process.send_signal(signal.SIGTERM)
    wait_for("draining", lambda: late.submit(str(uuid.uuid4()), prompt="x")[-1].get("code") == "draining")
    refused = late.submit("late", prompt="too late")
    assert refused[-1]["code"] == "draining" and refused[-1]["status"] == 503 and "seq" not in refused[-1]
    for i in ids:
        events = c.events(i)
        assert events[-1]["ev"] == "done" and text_of(events) == "w " * 30
    assert d.process.wait(60) == 0
    assert shm_objects(d.instance) == []


def test_a_second_signal_ends_open_answers_with_one_error(daemon):
    d = daemon(echo(gap_ms=500))
    c = d.client()
    c.send(op="submit", id="s", prompt="w " * 200)
    c.wait(lambda e: e["ev"] == "delta")
    d.process.send_signal(signal.SIGTERM)
    wait_for("the drain", lambda: "drain" in d.log())
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(60) is not None
    events = c.events("s")
    assert events[-1]["ev"] == "error" and events[-1]["code"] == "draining"
    assert shm_objects(d.instance) == []


def test_a_killed_supervisor_takes_its_workers_along_and_is_adopted(daemon):
    d = daemon(echo(gap_ms=30))
    status = d.status()
    pids = [s["pid"] for lane in status["lanes"] for s in lane["stages"]] + [g["pid"] for g in status["gateways"]]
    c = d.client()
    c.send(op="submit", id="adopted", prompt="w " * 100, detach=True)
    c.next()
    d.process.kill()
    d.process.wait()

    def gone(pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for("the workers to end", lambda: all(gone(p) for p in pids))
    d.start()
    reader = d.client()
    reader.send(op="attach", id="adopted")
    events = reader.events("adopted")
    assert events and events[-1]["ev"] in ("done", "error"), events
    if events[-1]["ev"] == "error":
        assert events[-1]["code"] == "worker_restarted"
    assert text_of(d.client().submit("next", prompt="fine")) == "fine"


@pytest.mark.parametrize("stage", STAGES + ["gateway"])
def test_restart_of_a_stage_loses_nothing(daemon, stage):
    d = daemon(echo(gap_ms=5))
    before = d.pid(stage)
    c = d.client()
    ids = [str(uuid.uuid4()) for _ in range(30)]
    if stage != "gateway":
        for i in ids:
            c.send(op="submit", id=i, prompt=f"words of {i}")
    result = d.cli("restart", stage)
    assert result.returncode == 0, result.stderr
    d.wait_ready(stage, 0, before)
    if stage == "gateway":
        assert text_of(d.client().submit("after", prompt="restart")) == "restart"
        return
    for i in ids:
        events = c.events(i)
        assert events[-1]["ev"] == "done" and text_of(events) == f"words of {i}"
