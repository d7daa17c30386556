"""Every fault point of every stage: killed there with requests in flight, each of them ends once and whole.

By default each point is killed once and each of a stage's own points crashes once; with MILLRACE_FAULT_WALK=all
every point goes through every action, alone (several minutes).
"""

import os
import re
import socket
import subprocess

import pytest

from backend import Backend
from conftest import MILLRACE, ROOT, Daemon, check_sequence, text_of, wait_for
from ledger import Echo, Kept, Ledger, Question, Told, Unread

STAGES = ["gateway", "rag", "assemble", "inference", "post", "stream", "telemetry"]
RECOVERY = ["in_recovery", "before_ready"]
COMMON = [*RECOVERY, "on_record", "after_commit", "before_ack", "after_ack"]
FLIGHT = 36  # requests under way
QUESTION = "Where do requests wait?"

pytestmark = pytest.mark.skipif(
    "faults: on" not in subprocess.run([MILLRACE, "--version"], capture_output=True, text=True).stdout,
    reason="built without -Dfaults=true")


# ---- the table -----------------------------------------------------------------------------------------------------


def documented():
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| ", (ROOT / "docs" / "faults.md").read_text(), re.M)
    return [(stage, point) for stage, point in rows]


def compiled_in():
    found = set()
    for source in [*(ROOT / "stages").rglob("*.c"), *(ROOT / "stages").rglob("*.cc")]:
        folder = source.relative_to(ROOT / "stages").parts[0]
        for call in re.findall(r"\bFAULT(?:_AT|_ERROR)?\(([^;]*)\)", source.read_text()):
            for point in re.findall(r'"(\w+)"', call):
                if point != folder:
                    found.add(("every" if folder == "common" else folder, point))
    return found


def points_of(stage):
    return [point for of, point in documented() if of in (stage, "every")]


def test_the_documented_points_are_those_of_the_sources():
    assert len(documented()) == len(set(documented()))
    assert set(documented()) == compiled_in()
    assert {stage for stage, _ in documented()} <= {"every", *STAGES}


# ---- the walk ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A backend, an index, and what a question is answered when nothing dies."""
    index = str(tmp_path_factory.mktemp("faults") / "index")
    added = subprocess.run([MILLRACE, "index", "add", "--index", index, str(ROOT / "docs")], capture_output=True,
                           text=True)
    assert added.returncode == 0, added.stderr
    with Backend() as backend:
        workers = [{"name": "echo", "kind": "echo", "gap_ms": 2}, {"name": "extract", "kind": "extract"},
                   {"name": "gpu", "kind": "openai", "base_url": backend.url}]
        settings = {"lanes": 1, "inference.workers": workers, "inference.retry.attempts": 1,
                    "inference.models": {"echo": ["echo"], "extract": ["extract"], "*": ["gpu"]},
                    "rag.index": index, "rag.timeout_ms": 30000, "stream.gateway_grace_ms": 600000,
                    "supervisor.restart_burst": 1000}
        calm = Daemon(settings)
        try:
            events = calm.start().client().submit("calm", prompt=QUESTION, model="extract")
        finally:
            calm.finish()
        check_sequence(events)
        assert events[-1]["sources"], events[-1]
        answers = {QUESTION: (text_of(events), events[-1]["sources"])}
        yield {"backend": backend, "settings": settings,
               "kinds": [Echo(model="echo"), Kept(model="echo"), Question(answers, model="extract"),
                         Told(backend, model="told"), Unread(backend, model="told")]}


def spec(stage, point, action, after):
    """`after`: how many of its incarnations have died at points of recovery before this one does."""
    match = f":match=#{2 + after}" if point in RECOVERY else ""
    return f"{stage}:{point}:{action}:count=1{match}"


def walk(daemon, world, stage, deaths, **settings):
    """One daemon in which a stage dies at each of these (point, action), once each."""
    in_recovery = tuple(death for death in deaths if death[0] in RECOVERY)
    faults = [spec(stage, *death, in_recovery.index(death) if death in in_recovery else 0) for death in deaths]
    d = daemon({**world["settings"], **settings}, env={"MILLRACE_FAULT": ",".join(faults)})
    hangs = any(action == "hang" for _, action in deaths)
    if hangs:  # who hangs between a commit and its ring rings nobody
        d.tolerated = "ev=tripwire"
    ledger = Ledger(d, 1, world["kinds"], lines=2)
    ledger.keep(FLIGHT)
    expected = len(deaths)
    if in_recovery == deaths:  # nobody dies first, so that somebody would recover
        wait_for("answers", lambda: ledger.step(0.02) or ledger.ended.total() > 3, pause=0)
        d.kill(stage)
        expected += 1

    def died():
        ledger.keep(FLIGHT)
        ledger.step(0.05)
        place = d.place(stage)
        return place["restarts"] >= expected and place["state"] == "ready"

    wait_for(f"{expected} deaths", died, pause=0)
    ledger.finish()
    assert ledger.wrong == []
    assert set(ledger.ended) <= ({"done", "worker_restarted"} if stage == "inference" else {"done"})
    if stage != "inference":
        assert {len(runs) for runs in world["backend"].runs.values()} <= {1}
    world["backend"].runs.clear()
    requests = wait_for("nothing in flight", lambda: (r := d.status()["requests"])["in_flight"] == 0 and r)
    assert (requests["completed"], requests["failed"]) == (ledger.ended["done"], ledger.ended["worker_restarted"])
    # Where something hangs a second of silence is death: a busy machine brings that about by itself.
    assert d.place(stage)["restarts"] == expected or hangs


if os.environ.get("MILLRACE_FAULT_WALK") == "all":
    WALKS = [(stage, ((point, action),)) for stage in STAGES for point in points_of(stage)
             for action in ("kill", "segv", "abort", "hang")]
else:
    # A death by one's own fault is a strike against the record at hand, so no daemon sees more than two.
    OWN = {stage: [p for p in points_of(stage) if p not in COMMON] for stage in STAGES}
    WALKS = [(stage, tuple((point, "kill") for point in points_of(stage))) for stage in STAGES]
    WALKS += [(stage, tuple(zip(own[i:i + 2], ("segv", "abort")))) for stage, own in OWN.items()
              for i in range(0, len(own), 2)]
    WALKS += [(stage, ((point, "hang"),)) for stage, point in
              (("rag", "query_running"), ("inference", "between_tokens"), ("stream", "published"), ("stream", "in_transaction"))]


@pytest.mark.parametrize("stage, deaths", WALKS, ids=[
    f"{stage}-{deaths[0][1]}-" + ("all" if len(deaths) > 2 else "-".join(p for p, _ in deaths)) for stage, deaths in WALKS])
def test_a_stage_that_dies_at_a_fault_point_loses_nothing(daemon, world, stage, deaths):
    hangs = any(action == "hang" for _, action in deaths)
    walk(daemon, world, stage, deaths, **({"supervisor.heartbeat_timeout_ms": 1000} if hangs else {}))


# ---- growth --------------------------------------------------------------------------------------------------------


def metrics(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: s.recv(1 << 16), b"")).decode()


@pytest.mark.parametrize("stage, cap_mib, leak_mib", [("post", 64, 55), ("inference", 96, 80)])
def test_a_stage_that_grows_is_replaced_before_its_cap_and_loses_nothing(daemon, world, tmp_path, stage, cap_mib, leak_mib):
    listen = str(tmp_path / "metrics.sock")
    d = daemon({**world["settings"], "memory.worker_cap_bytes": cap_mib << 20, "telemetry.listen": f"unix:{listen}"},
               env={"MILLRACE_FAULT": f"{stage}:on_record:leak={1 << 20}:count={leak_mib}"})
    ledger = Ledger(d, 1, world["kinds"], lines=2)

    def replaced():
        ledger.keep(FLIGHT)
        ledger.step(0.05)
        return d.place(stage)["restarts"] > 0

    wait_for("the replacement", replaced, pause=0)
    ledger.finish()
    assert ledger.wrong == [] and set(ledger.ended) == {"done"}
    assert d.place(stage)["restarts"] == 1 and d.place(stage)["last_exit"] == "exit 0"
    assert f"ev=recycle stage={stage} " in d.log()
    labels = f'millrace_stage_restarts_total{{stage="{stage}",lane="0",reason="memory"}}'
    assert f"{labels} 1\n" in metrics(listen)
