"""Detached requests: their answers survive every process, and the daemon itself."""

import os
import pathlib
import re
import socket
import sqlite3
import stat
import subprocess
import threading
import time

import pytest
from backend import Backend
from conftest import ECHO, MILLRACE, check_sequence, echo, text_of, wait_for


def database(d):
    return pathlib.Path(d.directory, f"{d.instance}.db")


def rows(d, sql, *values):
    connection = sqlite3.connect(f"file:{database(d)}?mode=ro", uri=True, timeout=60)
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def scrape(folder):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{folder}/metrics.sock")
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: s.recv(65536), b"")).decode()


def detach(client, id, prompt, **more):
    client.send(op="submit", id=id, prompt=prompt, detach=True, **more)
    event = client.wait(lambda e: e.get("id") == id)
    assert event["ev"] == "accepted", event


def result(client, id):
    client.send(op="result", id=id)
    return client.wait(lambda e: e.get("id") == id and e["ev"] in ("result", "error"))


def completed(client, id):
    return wait_for(f"the result of {id}", lambda: (r := result(client, id)).get("status") == "completed" and r)


@pytest.fixture
def reborn(daemon):
    """Ends the daemon with all its memory, and starts another one of the same name in the same folder."""
    def again(d, settings=None, **options):
        assert d.stop() == 0
        return daemon(settings if settings is not None else ECHO, name=d.instance, directory=d.directory, **options)
    return again


# ---- refusals ------------------------------------------------------------------------------------------------


def test_without_a_database_nothing_is_detached(daemon):
    d = daemon(echo(**{"stream.database": "none"}))
    c = d.client()
    refused = c.submit("j", prompt="x", detach=True)[-1]
    assert refused["code"] == "invalid_request" and "seq" not in refused and "database" in refused["message"]
    assert text_of(c.submit("j", prompt="still fine")) == "still fine"
    assert d.cli("submit", "--detach", "x").returncode == 1
    assert not database(d).exists()


def test_an_id_that_nobody_knows_is_not_found(daemon):
    d = daemon(ECHO)
    c = d.client()
    detach(c, "known", "x")
    completed(c, "known")
    for op in ("result", "attach", "cancel"):
        c.send(op=op, id="unknown")
        assert c.next()["code"] == "not_found"


def test_a_broken_file_is_renamed_aside_and_told(daemon, tmp_path):
    path = tmp_path / "results.db"
    path.write_bytes(b"this is no database " * 1000)
    d = daemon(echo(**{"stream.database": str(path)}))
    c = d.client()
    detach(c, "j", "after all")
    assert completed(c, "j")["text"] == "after all"
    aside = [p for p in tmp_path.iterdir() if ".broken-" in p.name]
    assert len(aside) == 1 and aside[0].read_bytes().startswith(b"this is no database")
    line = next(line for line in d.log().splitlines() if "database_broken" in line)
    assert line.startswith("error ") and str(path) in line and str(aside[0]) in line


def test_a_database_of_another_program_is_left_alone(daemon, tmp_path):
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    d = daemon(echo(**{"stream.database": str(path)}))
    wait_for("the daemon to be degraded", lambda: d.status()["state"] == "degraded")
    assert "another program" in d.log()
    c = d.client()
    refused = c.submit("j", prompt="x", detach=True)[-1]
    assert refused["code"] == "overloaded" and refused["retryable"] is True and refused["retry_after_ms"] > 0
    assert text_of(c.submit("plain", prompt="goes on")) == "goes on"
    assert path.read_bytes() == before or sqlite3.connect(path).execute("SELECT count(*) FROM theirs").fetchone() == (0,)


# ---- results -------------------------------------------------------------------------------------------------


def test_results_survive_the_daemon(daemon, reborn):
    d = daemon(echo(delay_ms=50))
    c = d.client()
    prompts = {f"job-{i}": f"the answer number {i}" for i in range(20)}
    for id, prompt in prompts.items():
        detach(c, id, prompt, session=id)
    events = {}
    for id in prompts:
        c.send(op="attach", id=id)
        events[id] = c.events(id)
    d = reborn(d)
    c = d.client()
    for id, prompt in prompts.items():
        assert result(c, id)["text"] == prompt
        c.send(op="attach", id=id)
        assert text_of(again := c.events(id)) == prompt
        assert check_sequence(again) == again[-1]["seq"] == events[id][-1]["seq"]
        assert again[-1]["usage"] == events[id][-1]["usage"]
    reader = d.client()
    reader.send(op="attach", id="job-3", after=2)
    assert check_sequence(reader.events("job-3"), after=2) == events["job-3"][-1]["seq"]
    assert d.cli("result", "job-7").stdout == "the answer number 7\n"
    assert d.status()["requests"]["admitted"] == 0


def test_a_stored_id_never_runs_again(daemon, reborn):
    with Backend() as backend:
        settings = {"inference.workers": [{"name": "b", "kind": "openai", "base_url": backend.url}],
                    "inference.models": {"*": ["b"]}}
        d = daemon(settings)
        c = d.client()
        detach(c, "once", "do it once", model="m")
        completed(c, "once")
        d = reborn(d, settings)
        c = d.client()
        events = c.submit("once", prompt="do it once", model="m")
        assert [events[0]["ev"], events[-1]["ev"]] == ["accepted", "done"] and text_of(events) == "You said: do it once"
        assert check_sequence(events) == events[-1]["seq"]
        conflict = c.submit("once", prompt="do something else", model="m")[-1]
        assert conflict["code"] == "id_conflict" and "seq" not in conflict
        c.send(op="cancel", id="once")
        assert c.next() == {"ev": "cancelled", "id": "once"}
        assert result(c, "once")["status"] == "completed"
        assert len(backend.log()) == 1


def test_what_came_together_for_a_stored_id_is_answered_in_its_order(daemon, reborn):
    d = daemon(ECHO)
    detach(d.client(), "j", "one two")
    completed(d.client(), "j")
    d = reborn(d)
    c = d.client()
    for _ in range(3):
        c.send(op="result", id="j")
        c.send(op="submit", id="j", prompt="one two", detach=True)
    c.send(op="attach", id="j")
    events = []
    while not events or events[-1]["ev"] != "done":
        events.append(c.next())
    kinds = [e["ev"] for e in events]
    assert kinds.count("result") == 3 and kinds.count("accepted") == 3 and kinds.count("delta") == 2
    assert all(e["text"] == "one two" for e in events if e["ev"] == "result")


def test_failed_requests_are_kept_and_retryable_ones_run_anew(daemon, reborn):
    with Backend() as backend:
        settings = {"inference.workers": [{"name": "b", "kind": "openai", "base_url": backend.url}],
                    "inference.models": {"*": ["b"]}, "inference.retry.attempts": 1}
        d = daemon(settings)
        c = d.client()
        detach(c, "bad", "x", model="http_400")
        detach(c, "busy", "x", model="http_503")
        for id in ("bad", "busy"):
            wait_for(id, lambda: result(c, id).get("status") == "failed")
        d = reborn(d, settings)
        c = d.client()
        assert result(c, "bad")["error"]["code"] == "invalid_request"
        runs = len(backend.log())
        assert c.submit("bad", prompt="x", model="http_400")[-1]["code"] == "invalid_request"
        assert len(backend.log()) == runs
        assert c.submit("busy", prompt="x", model="http_503")[-1]["ev"] == "error"
        assert len(backend.log()) == runs + 1


def test_the_file_is_private_and_keeps_each_event_once(daemon):
    d = daemon(echo(lanes=2))
    c = d.client()
    for i in range(30):
        detach(c, f"j{i}", f"a b c {i}", session=f"s{i}")
    for i in range(30):
        completed(c, f"j{i}")
    assert stat.S_IMODE(os.stat(database(d)).st_mode) == 0o600
    assert rows(d, "PRAGMA journal_mode") == [("wal",)]
    assert rows(d, "SELECT count(*), count(DISTINCT id), count(DISTINCT lane) FROM responses") == [(30, 30, 2)]
    assert rows(d, "SELECT count(*), max(ord) FROM events") == [(30 * 5, 5)]
    assert rows(d, "PRAGMA integrity_check") == [("ok",)]


def test_results_are_forgotten_after_their_time(daemon, reborn):
    d = daemon(echo(**{"stream.results_ttl_s": 1}))
    c = d.client()
    detach(c, "j", "soon forgotten")
    completed(c, "j")
    wait_for("the row to go", lambda: rows(d, "SELECT count(*) FROM responses") == [(0,)])
    assert rows(d, "SELECT count(*) FROM events") == [(0,)]
    d = reborn(d)
    assert result(d.client(), "j")["code"] == "not_found"


def test_an_evicted_answer_comes_from_the_database(daemon, tmp_path):
    d = daemon(echo(lanes=1, **{"stream.response_ttl_s": 0, "telemetry.listen": f"unix:{tmp_path}/metrics.sock"}))

    def lookups():
        return sum(int(n) for n in re.findall(r"^millrace_database_lookups_total\{.*\} (\d+)", scrape(tmp_path), re.M))

    c = d.client()
    detach(c, "j", "kept on disk")
    assert completed(c, "j")["text"] == "kept on disk"
    before = lookups()
    wait_for("it to be evicted", lambda: result(c, "j")["text"] == "kept on disk" and lookups() > before)
    c.send(op="attach", id="j")
    assert text_of(c.events("j")) == "kept on disk"


def test_submit_detach_prints_the_id_and_result_waits(daemon, reborn):
    d = daemon(echo(delay_ms=300))
    submitted = d.cli("submit", "--detach", "later then")
    assert submitted.returncode == 0
    id = submitted.stdout.strip()
    assert id and "\n" not in id
    assert d.cli("result", id).stderr.strip() in (f"millrace result: {id} is running", f"millrace result: {id} is queued")
    assert d.cli("result", "--wait", id).stdout == "later then\n"
    d = reborn(d)
    assert d.cli("result", "--wait", id).stdout == "later then\n"


# ---- answers that are larger than the log ---------------------------------------------------------------------


LOG = 1 << 19


def large(seed=0):
    """Thirty thousand words, each another one: as events they are several logs."""
    return " ".join(f"{seed}-{n:05}" for n in range(30000))


def small_log(**more):
    return echo(lanes=1, **{"stream.log_bytes": LOG, "admission.max_in_flight": 8, **more})


def parts(folder):
    text = scrape(folder)
    return int(re.search(r"^millrace_result_parts_total\{.*\} (\d+)", text, re.M)[1])


def is_whole(client, id, text, after=0):
    client.send(op="attach", id=id, after=after)
    events = client.events(id)
    assert events[-1]["ev"] == "done", events[-1]
    assert check_sequence(events, after=after) == events[-1]["seq"] == 30001
    assert text_of(events) == "".join(re.findall(r"\S+\s*", text)[after:])


def test_an_answer_larger_than_the_log_is_kept_whole(daemon, reborn, tmp_path):
    settings = small_log(**{"telemetry.listen": f"unix:{tmp_path}/metrics.sock"})
    d = daemon(settings)
    c = d.client()
    detach(c, "j", large())
    detach(c, "k", large(1))
    assert completed(c, "j")["text"] == large() and completed(c, "k")["text"] == large(1)
    assert parts(tmp_path) > 4
    assert rows(d, "SELECT id, count(*), max(ord) FROM events JOIN responses ON n = response GROUP BY n") == [
        ("j", 30001, 30001), ("k", 30001, 30001)]
    for after in (0, 1, 12345, 29999, 30000):
        is_whole(d.client(), "j", large(), after)
    again = d.client().submit("k", prompt=large(1), detach=False, stream=False)
    assert text_of(again) == large(1) and again[-1]["ev"] == "done"
    d = reborn(d, settings)
    is_whole(d.client(), "k", large(1), 777)
    assert d.cli("result", "j").stdout == large() + "\n"


@pytest.mark.parametrize("point", ["in_transaction", "after_transaction", "log_written"])
def test_stream_killed_while_it_stores_a_part_loses_none(daemon, point):
    d = daemon(small_log(), env={"MILLRACE_FAULT": f"stream:{point}:kill:count=3"})
    c = d.client()
    detach(c, "j", large())
    assert completed(c, "j")["text"] == large()
    assert d.place("stream")["restarts"] == 3
    assert rows(d, "SELECT count(*), max(ord) FROM events") == [(30001, 30001)]
    is_whole(d.client(), "j", large())


def test_a_job_of_which_parts_are_stored_runs_anew(daemon):
    d = daemon(small_log(), env={"MILLRACE_FAULT": "inference:between_tokens:kill:match=0-20000:count=2"})
    c = d.client()
    detach(c, "j", large())
    wait_for("its end", lambda: result(c, "j")["status"] not in ("queued", "running"))
    assert result(c, "j")["text"] == large()
    assert d.place("inference")["restarts"] == 2
    assert rows(d, "SELECT count(*), max(ord) FROM events") == [(30001, 30001)]
    is_whole(d.client(), "j", large(), 5)


def test_others_are_answered_beside_an_answer_larger_than_the_log(daemon):
    d = daemon(small_log())
    c = d.client()
    detach(c, "j", large())
    for n in range(50):
        assert text_of(c.submit(f"beside-{n}", prompt=f"beside it {n}")) == f"beside it {n}"
    assert completed(c, "j")["text"] == large()


def test_while_the_database_cannot_be_written_answers_go_on(daemon):
    d = daemon(small_log(), env={"MILLRACE_FAULT": "stream:in_transaction:enospc:count=20"})
    c = d.client()
    detach(c, "j", large())
    wait_for("the failure", lambda: d.status()["state"] == "degraded")
    assert text_of(c.submit("plain", prompt="goes on")) == "goes on"
    wait_for("its end", lambda: result(c, "j").get("status") != "running")


# ---- deaths --------------------------------------------------------------------------------------------------


def test_a_job_that_nobody_has_read_runs_anew_when_inference_dies_in_its_middle(daemon, reborn):
    d = daemon(echo(lanes=1, gap_ms=20), env={"MILLRACE_FAULT": "inference:between_tokens:kill:count=3"})
    c = d.client()
    prompt = "one two three four five six seven eight"
    detach(c, "j", prompt)
    waiting = subprocess.Popen([MILLRACE, "result", "--wait", "j"], env=d.env, stdout=subprocess.PIPE, text=True)
    asked = []

    def over():
        asked.append(result(c, "j"))
        return asked[-1]["status"] not in ("queued", "running") and asked[-1]

    answer = wait_for("the end of the job", over)
    assert (answer["status"], answer["text"]) == ("completed", prompt)
    assert {r["text"] for r in asked[:-1]} <= {""}  # who asks whether it has ended reads nothing
    assert waiting.communicate(timeout=60)[0] == prompt + "\n"
    assert d.place("inference")["restarts"] == 3
    c.send(op="attach", id="j")
    events = c.events("j")
    assert text_of(events) == prompt and check_sequence(events) == events[-1]["seq"] == 9
    assert d.status()["requests"]["completed"] == 1
    assert rows(d, "SELECT count(*), max(ord) FROM events") == [(9, 9)]
    assert result(reborn(d).client(), "j")["text"] == prompt


def test_a_job_that_somebody_reads_ends_in_an_error_when_inference_dies_in_its_middle(daemon):
    d = daemon(echo(lanes=1, gap_ms=300))
    c = d.client()
    detach(c, "j", "one two three four five")
    c.send(op="attach", id="j")
    assert c.next()["text"] == "one "
    d.kill("inference")
    events = c.events("j")
    assert (events[-1]["ev"], events[-1]["code"], events[-1]["retryable"]) == ("error", "worker_restarted", True)
    check_sequence(events, after=1)
    assert result(c, "j")["error"]["code"] == "worker_restarted"
    detach(c, "j", "one two three four five")  # and anew under its id
    assert completed(c, "j")["text"] == "one two three four five"


def test_a_reader_who_comes_while_a_job_is_begun_anew_gets_the_error_and_the_backend_is_let_go(daemon):
    with Backend() as backend:
        # Inference has looked for readers before it said RESTART; now stream takes its time to look.
        d = daemon({"lanes": 1, "inference.workers": [{"name": "b", "kind": "openai", "base_url": backend.url}],
                    "inference.models": {"*": ["b"]}},
                   env={"MILLRACE_FAULT": "stream:on_record:sleep=1500:match=inference died:count=1"})
        c = d.client()
        detach(c, "j", "x", model="stall_after_one")
        wait_for("the first word", lambda: backend.log() and backend.log()[0]["events"] == 2)
        wait_for("it in the log", lambda: result(c, "j")["status"] == "running")
        killed = d.kill("inference")
        d.wait_ready("inference", 0, killed)
        c.send(op="attach", id="j")
        events = c.events("j")
        assert [e["ev"] for e in events] == ["delta", "error"] and events[-1]["code"] == "worker_restarted", events
        check_sequence(events)
        wait_for("the second run to be cancelled",
                 lambda: len(backend.log()) == 2 and backend.log()[1]["ended"] == "client")
        wait_for("nothing in flight", lambda: d.status()["lanes"][0]["in_flight"] == 0)
        requests = d.status()["requests"]
        assert (requests["failed"], requests["in_flight"]) == (1, 0)


def test_a_job_that_kills_inference_each_time_is_given_up(daemon):
    d = daemon(echo(lanes=1, gap_ms=5), env={"MILLRACE_FAULT": "inference:between_tokens:segv:match=poison"})
    c = d.client()
    detach(c, "j", "one two poison four")
    wait_for("the end of the job", lambda: result(c, "j").get("status") == "failed")
    assert result(c, "j")["error"]["code"] == "dead_letter"
    assert d.place("inference")["restarts"] == 3
    assert text_of(c.submit("next", prompt="goes on")) == "goes on"


@pytest.mark.parametrize("point", ["in_transaction", "after_transaction"])
def test_stream_killed_while_it_stores_repeats_it_and_doubles_nothing(daemon, reborn, point):
    d = daemon(echo(lanes=1), env={"MILLRACE_FAULT": f"stream:{point}:kill:count=2"})
    c = d.client()
    prompts = {f"j{i}": f"words of {i}" for i in range(10)}
    for id, prompt in prompts.items():
        detach(c, id, prompt)
    for id, prompt in prompts.items():
        assert completed(c, id)["text"] == prompt
    assert d.place("stream")["restarts"] == 2
    assert rows(d, "SELECT count(*) FROM responses") == [(10,)]
    assert rows(d, "SELECT count(*) FROM events") == [(10 * 4,)]
    d = reborn(d)
    for id, prompt in prompts.items():
        assert result(d.client(), id)["text"] == prompt


def test_done_is_told_only_when_it_is_stored(daemon):
    d = daemon(echo(lanes=1), env={"MILLRACE_FAULT": "stream:in_transaction:sleep=1500:count=1"})
    c = d.client()
    detach(c, "j", "a b")
    c.send(op="attach", id="j")
    while (event := c.next())["ev"] == "delta":
        pass
    assert event["ev"] == "done"
    assert rows(d, "SELECT id FROM responses") == [("j",)]


def test_a_slow_disk_holds_nobody_else_up(daemon):
    """C23."""
    d = daemon(echo(lanes=1), env={"MILLRACE_FAULT": "stream:in_transaction:sleep=2000:count=1"})
    c = d.client()
    detach(c, "slow", "x")
    before = time.monotonic()
    for i in range(50):
        assert text_of(c.submit(f"q{i}", prompt=f"quick {i}")) == f"quick {i}"
    assert result(c, "slow")["status"] == "running" or time.monotonic() - before > 2
    completed(c, "slow")


def test_a_full_disk_degrades_and_recovers_by_itself(daemon, reborn):
    d = daemon(echo(lanes=1), env={"MILLRACE_FAULT": "stream:in_transaction:enospc:count=3"})
    c = d.client()
    detach(c, "j", "not lost")
    assert completed(c, "j")["text"] == "not lost"  # answers go on
    assert d.status()["state"] == "degraded"
    refused = c.submit("k", prompt="x", detach=True)[-1]
    assert refused["code"] == "overloaded" and "seq" not in refused and refused["retry_after_ms"] > 0
    assert text_of(c.submit("plain", prompt="goes on")) == "goes on"
    wait_for("the recovery", lambda: d.status()["state"] == "running")
    lines = [line for line in d.log().splitlines() if "ev=database_failed" in line]
    assert len(lines) == 1 and str(database(d)) in lines[0] and "No space left" in lines[0]
    wait_for("the row", lambda: rows(d, "SELECT id FROM responses") == [("j",)])
    detach(c, "k", "again")
    completed(c, "k")
    d = reborn(d)
    assert result(d.client(), "j")["text"] == "not lost"


def test_many_clients_ask_for_stored_results_at_once(daemon, reborn):
    d = daemon(echo(lanes=2))
    c = d.client()
    for i in range(200):
        detach(c, f"j{i}", f"text {i}")
    for i in range(200):
        completed(c, f"j{i}")
    d = reborn(d, echo(lanes=2))
    wrong = []

    def ask():
        client = d.client()
        for i in range(200):
            client.send(op="result", id=f"j{i}")
        for i in range(200):
            answer = client.wait(lambda e: e.get("id") == f"j{i}")
            if answer.get("text") != f"text {i}":
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
