"""A request that a stage has died of three times is given up: its client hears so, and nobody else notices."""

import json
import os
import re
import signal
import sqlite3
import stat
import subprocess

import pytest

from conftest import DEADLINE, MILLRACE, check_sequence, echo, text_of, wait_for
from ledger import Echo, Kept, Ledger

STAGES = ["rag", "assemble", "inference", "post", "stream"]
FAULTS = "faults: on" in subprocess.run([MILLRACE, "--version"], capture_output=True, text=True).stdout
pytestmark = pytest.mark.skipif(not FAULTS, reason="built without -Dfaults=true")
POISON = "some words, then POISON, and more"
GIVEN_UP = r"^error stage={} .*ev=dead_letter "


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
            return len(re.findall(GIVEN_UP.format(stage), d.log(), re.M)) == n

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
    assert len(re.findall(GIVEN_UP.format(stage) + ".* strikes=3 signal=11", d.log(), re.M)) == 3, d.log()
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


# ---- what is kept, and `millrace dlq` ------------------------------------------------------------------------------


def database(d):
    return os.path.join(d.directory, f"{d.instance}.db")


def dlq(d, *arguments):
    return d.cli("dlq", "--database", database(d), *arguments)


def letters(d):
    result = dlq(d, "--json", "list")
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def show(d, id):
    result = dlq(d, "--json", "show", id)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def result_of(client, id):
    def settled():
        client.send(op="result", id=id)
        event = client.wait(lambda e: e.get("id") == id and (e["ev"] == "result" or e["ev"] == "error"))
        return event if event.get("status") not in ("queued", "running") else None
    return wait_for("the result", settled)


def test_dlq_refuses_what_makes_no_sense(tmp_path):
    env = {**os.environ, "STATE_DIRECTORY": str(tmp_path), "MILLRACE_SOCKET": str(tmp_path / "none.sock")}

    def run(*arguments):
        return subprocess.run([MILLRACE, "dlq", *arguments], env=env, capture_output=True, text=True, timeout=DEADLINE)

    for arguments in ((), ("--json",), ("shovel",), ("show",), ("show", "a", "b"), ("replay",), ("drop",), ("list", "x"),
                      ("--all", "list"), ("--all", "drop", "a"), ("--bad", "list")):
        result = run(*arguments)
        assert result.returncode == 2 and result.stdout == "" and result.stderr, arguments
    assert run("-c", str(tmp_path / "none.yaml"), "list").returncode == 2
    none = tmp_path / "none.yaml"
    none.write_text("stream: {database: none}\n")
    assert "only counted" in run("-c", str(none), "list").stderr
    # No file yet: there are no letters. A file that was named should be there.
    assert (run("list").returncode, run("list").stdout) == (0, "")
    assert run("--all", "drop").stdout == "dropped 0\n"
    result = run("show", "nobody")
    assert result.returncode == 1 and "nobody: no dead letter has this id" in result.stderr
    missing = run("--database", str(tmp_path / "missing.db"), "list")
    assert missing.returncode == 1 and "no such database" in missing.stderr
    text = tmp_path / "text.db"
    text.write_text("precious, and no database at all " * 40)
    result = run("--database", str(text), "list")
    assert result.returncode == 1 and "not a database" in result.stderr
    assert text.read_text().startswith("precious") and sorted(os.listdir(tmp_path)) == ["none.yaml", "text.db"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_dead_letter_has_the_whole_request_in_it(daemon, stage):
    d = daemon(echo(lanes=1), env=fault(f"{stage}:on_record:segv:match=POISON"))
    client = d.client()
    frames = {
        "small": dict(prompt=POISON, session="s1", model="m1", system="be brief", vars={"a": {"b": [1, None]}},
                      priority="interactive", rag=False, deadline_ms=60000),
        "large": dict(messages=[{"role": "user", "content": "many words " * 1000}, {"role": "user", "content": POISON}],
                      params={"temperature": 0.5, "max_tokens": 99, "stop": ["x"]}),
        "own": dict(body=json.dumps({"model": "theirs", "odd": {"x": 1}, "messages": [{"role": "user", "content": POISON}]}),
                    params={"temperature": 0.25, "seed": 7, "stop": ["x", "y"]}, detach=True),
    }
    for id, frame in frames.items():
        client.send(op="submit", id=id, **frame)
        if frame.get("detach"):
            client.send(op="attach", id=id, after=0)
        ends_as_dead_letter(client.events(id), stage)
    assert stat.S_IMODE(os.stat(database(d)).st_mode) == 0o600
    rows = letters(d)
    assert [row["id"] for row in rows] == list(frames)
    for row in rows:
        assert (row["stage"], row["strikes"], row["signal"], row["tenant"], row["lane"]) == (stage, 3, 11, "local", 0)
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["when"]) and row["died_ms"] > 1e12
        whole = show(d, row["id"])
        assert {key: whole[key] for key in row} == row and whole["whole"] and len(whole["body"]) == row["bytes"]
        assert row["id"] in dlq(d, "show", row["id"]).stdout
    small, large, own = (show(d, id) for id in frames)
    assert (small["session"], small["model"], small["system"], small["vars"]) == ("s1", "m1", "be brief", {"a": {"b": [1, None]}})
    assert (small["priority"], small["rag"], small["detach"], small["built"]) == ("interactive", False, False, True)
    assert json.loads(small["body"]) == {"messages": [{"role": "user", "content": POISON}]}
    assert json.loads(large["body"]) == {"messages": frames["large"]["messages"], **frames["large"]["params"]}
    assert own["body"] == frames["own"]["body"] and own["detach"] and not own["built"] and own["model"] == "theirs"
    assert json.loads("{" + own["params"] + "}") == frames["own"]["params"]
    assert POISON in dlq(d, "show", "own").stdout
    assert [line.split()[0] for line in dlq(d, "list").stdout.splitlines()] == list(frames)
    # What a detached one ended in is a result like others.
    assert (own_result := result_of(client, "own"))["status"] == "failed", own_result
    assert own_result["error"]["code"] == "dead_letter"


@pytest.mark.parametrize("stage", ["rag", "stream"])
def test_a_dead_letter_runs_again_when_what_killed_it_is_gone(daemon, tmp_path, stage):
    settings = echo(lanes=1)
    first = daemon(settings, env=fault(f"{stage}:on_record:segv:match=POISON"), directory=str(tmp_path))
    frame = dict(prompt=POISON, session="s", params={"temperature": 0.5})
    for id in ("a", "b", "c"):
        ends_as_dead_letter(first.client().submit(id, **frame), stage)
    assert first.stop() == 0
    # Without a daemon there is nobody to ask, and everything else works.
    result = dlq(first, "replay", "a")
    assert result.returncode == 3 and len(letters(first)) == 3
    result = dlq(first, "--json", "drop", "c", "nobody")
    assert result.returncode == 1 and "nobody: no dead letter has this id" in result.stderr
    assert json.loads(result.stdout) == {"dropped": 1}
    d = daemon(settings, name=first.instance, directory=str(tmp_path))
    result = dlq(d, "--json", "replay", "a", "nobody")
    assert result.returncode == 1 and "nobody: no dead letter has this id" in result.stderr
    answer = json.loads(result.stdout)
    assert answer["id"] == "a" and re.fullmatch(r"dlq-[0-9a-f]{16}", answer["new_id"])
    client = d.client()
    assert result_of(client, answer["new_id"])["text"] == POISON
    assert [row["id"] for row in letters(d)] == ["b"]
    result = dlq(d, "replay", "b")
    assert result.returncode == 0 and result.stdout.startswith("b runs again as dlq-")
    assert result_of(client, result.stdout.split()[-1])["text"] == POISON
    assert letters(d) == [] and dlq(d, "--all", "drop").stdout == "dropped 0\n"


def test_a_replay_that_was_cut_short_runs_once(daemon, tmp_path):
    first = daemon(echo(lanes=1), env=fault("assemble:on_record:segv:match=POISON"), directory=str(tmp_path))
    ends_as_dead_letter(first.client().submit("a", prompt=POISON), "assemble")
    assert first.stop() == 0
    kept = open(database(first), "rb").read()
    d = daemon(echo(lanes=1), name=first.instance, directory=str(tmp_path))
    new_id = dlq(d, "replay", "a").stdout.split()[-1]
    assert result_of(d.client(), new_id)["status"] == "completed"
    copy = tmp_path / "copy.db"  # as if it had not been dropped
    copy.write_bytes(kept)
    admitted = d.status()["requests"]["admitted"]
    result = d.cli("dlq", "--database", str(copy), "replay", "a")
    assert result.returncode == 0 and result.stdout.split()[-1] == new_id
    assert d.status()["requests"]["admitted"] == admitted


def test_only_so_many_letters_are_kept(daemon):
    d = daemon(echo(lanes=1, **{"stream.dead_letters_max": 2}), env=fault("rag:on_record:segv:match=POISON"))
    for n in range(4):
        ends_as_dead_letter(d.client().submit(f"bad-{n}", prompt=POISON), "rag")
    assert [row["id"] for row in letters(d)] == ["bad-2", "bad-3"]
    assert d.status()["requests"]["dead_letters"] == 4


def test_without_a_database_dead_letters_are_only_counted(daemon):
    d = daemon(echo(lanes=1, **{"stream.database": "none"}), env=fault("post:on_record:segv:match=POISON"))
    ends_as_dead_letter(d.client().submit("bad", prompt=POISON), "post")
    assert d.status()["requests"]["dead_letters"] == 1
    assert not os.path.exists(database(d))


@pytest.mark.parametrize("point, action", [("in_transaction", "kill"), ("after_transaction", "kill"), ("before_ack", "kill"),
                                           ("in_transaction", "enospc")])
def test_the_client_hears_of_it_when_the_letter_is_stored(daemon, point, action):
    d = daemon(echo(lanes=1), env=fault("assemble:on_record:segv:match=POISON", f"stream:{point}:{action}:count=1"))
    ends_as_dead_letter(d.client().submit("bad", prompt=POISON), "assemble")
    # A database that could not be written gets the letter once it works again.
    wait_for("the letter", lambda: os.path.exists(database(d)) and [row["id"] for row in letters(d)] == ["bad"])
    assert POISON in show(d, "bad")["body"]
    assert d.status()["requests"]["dead_letters"] == 1


def test_a_file_of_the_version_before_gets_what_it_lacks(daemon, tmp_path):
    first = daemon(echo(lanes=1), directory=str(tmp_path))
    client = first.client()
    client.send(op="submit", id="kept", prompt="words", detach=True)
    assert result_of(client, "kept")["text"] == "words"
    assert first.stop() == 0
    with sqlite3.connect(database(first)) as db:
        db.executescript("DROP TABLE dead_letters; DROP TABLE sessions; DROP TABLE exchanges; PRAGMA user_version = 1;")
    d = daemon(echo(lanes=1), env=fault("rag:on_record:segv:match=POISON"), name=first.instance, directory=str(tmp_path))
    ends_as_dead_letter(d.client().submit("bad", prompt=POISON), "rag")
    assert [row["id"] for row in letters(d)] == ["bad"]
    assert result_of(d.client(), "kept")["text"] == "words"
