"""What is fixed for people who build on it: names, types and answers of the socket and the command."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import msgpack
import pytest
from conftest import BUILD, DEADLINE, MILLRACE, check_sequence, echo, text_of, wait_for

ERROR_KEYS = {"ev", "id", "code", "status", "message", "retry_after_ms", "retryable"}


def refused(client, **frame):
    client.send(**frame)
    error = client.next()
    assert error["ev"] == "error" and "seq" not in error, error
    assert error["code"] == "invalid_request" and error["status"] == 400 and error["retryable"] is False
    assert set(error) <= ERROR_KEYS and error["retry_after_ms"] is None
    return error["message"]


def test_every_event_has_its_members_and_no_other(daemon):
    d = daemon(echo())
    events = d.client().submit("e1", prompt="one two three")
    assert [e["ev"] for e in events] == ["accepted", "delta", "delta", "delta", "done"]
    assert set(events[0]) == {"ev", "id", "lane"}
    assert set(events[1]) == {"ev", "id", "seq", "text"}
    done = events[-1]
    assert set(done) == {"ev", "id", "seq", "finish_reason", "usage", "sources", "timing_us"}
    assert set(done["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert done["finish_reason"] == "stop" and done["sources"] == [] and "rag" in done["timing_us"]
    assert check_sequence(events) == 4

    c = d.client()
    c.send(op="result", id="e1")
    result = c.next()
    assert set(result) == {"ev", "id", "status", "text", "finish_reason", "usage", "sources", "error"}
    assert result["status"] == "completed" and result["text"] == "one two three" and result["error"] is None


def test_a_wrong_type_is_one_error_that_names_the_field_and_the_connection_goes_on(daemon):
    c = daemon(echo()).client()
    wrong = {"id": 5, "session": 5, "model": [], "system": 1, "template": 1, "vars": [], "priority": "urgent",
             "deadline_ms": 0, "rag": 1, "detach": "x", "stream": "y", "params": 3, "key": 3}
    for field, value in wrong.items():
        assert refused(c, op="submit", **{"prompt": "x", field: value}).startswith(field + ":")
    for value in (-1, 1.5, "5"):
        assert "deadline_ms" in refused(c, op="submit", prompt="x", deadline_ms=value)
    assert "messages" in refused(c, op="submit", messages="x")
    assert "body" in refused(c, op="submit", body=3)
    assert "prompt" in refused(c, op="submit", prompt=["a"])
    assert "prompt" in refused(c, op="submit")
    assert "only one" in refused(c, op="submit", prompt="x", messages=[{"role": "user", "content": "y"}])
    assert "after" in refused(c, op="attach", id="a", after=-1)
    for op in ("attach", "cancel", "result"):
        assert refused(c, op=op).startswith("id:")
    assert "fly" in refused(c, op="fly")
    c.send(op="ping")
    assert c.next() == {"ev": "pong"}


def test_a_message_without_role_or_content_is_named(daemon):
    c = daemon(echo()).client()
    assert "messages[0].role" in refused(c, op="submit", messages=[{"content": "x"}])
    assert "messages[1].content" in refused(c, op="submit", messages=[{"role": "system", "content": "s"},
                                                                      {"role": "user"}])
    assert "messages[0].content" in refused(c, op="submit", messages=[{"role": "user", "content": None}])
    events = c.submit("calls", messages=[{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": []}])
    assert events[-1]["ev"] == "done" and text_of(events) == "a"


def test_unknown_keys_are_ignored_and_nil_means_absent(daemon):
    c = daemon(echo()).client()
    names = "messages body id session model system template vars priority deadline_ms rag detach stream params key"
    c.send(op="submit", prompt="x", unknown={"a": [1]}, **{name: None for name in names.split()})
    accepted = c.next()
    assert accepted["ev"] == "accepted"
    assert c.events(accepted["id"])[-1]["ev"] == "done"
    c.send(op="ping", id=7, prompt=[])
    assert c.next() == {"ev": "pong"}


def test_what_is_too_large_is_named(daemon):
    c = daemon(echo(**{"admission.max_body_bytes": 65536})).client()
    for field, frame in (("prompt", {"prompt": "w" * 65530}), ("body", {"body": "w" * 65537}),
                         ("messages", {"messages": [{"role": "user", "content": "w" * 65530}]})):
        c.send(op="submit", id="big", **frame)
        error = c.next()
        assert (error["code"], error["status"]) == ("too_large", 413) and "seq" not in error
        assert error["message"].startswith(field + ":"), error
    c.send(op="ping")
    assert c.next() == {"ev": "pong"}


def test_only_the_content_makes_an_id_another_request(daemon):
    d = daemon(echo())
    base = {"prompt": "p", "model": "m", "system": "s", "template": "builtin", "vars": {"a": "b"}, "params": {"seed": 1}}
    assert d.client().submit("k", **base)[-1]["ev"] == "done"
    for change in ({"prompt": "q"}, {"model": "n"}, {"system": "t"}, {"vars": {"a": "c"}}, {"params": {"seed": 2}},
                   {"template": None}):
        error, = d.client().submit("k", **{**base, **change})
        assert (error["code"], error["status"], "seq" in error) == ("id_conflict", 409, False), change
    for change in ({"session": "z"}, {"priority": "bulk"}, {"deadline_ms": 60000}, {"stream": False}, {"rag": False}):
        events = d.client().submit("k", **{**base, **change})
        assert events[0]["ev"] == "accepted" and text_of(events) == "p" and check_sequence(events) == 2, change
    assert d.status()["requests"]["admitted"] == 1


def test_a_repeated_submit_or_attach_delivers_nothing_twice(daemon):
    d = daemon(echo(gap_ms=500))
    c = d.client()
    c.send(op="submit", id="r", prompt="a b c d e f")
    assert c.wait(lambda e: e.get("seq") == 2)
    c.send(op="submit", id="r", prompt="a b c d e f")
    c.send(op="attach", id="r")
    rest = c.events("r")
    seen = [e["seq"] for e in c.mail + rest if e.get("seq")]
    assert sorted(seen) == [1, 3, 4, 5, 6, 7]
    other = d.client()
    other.send(op="attach", id="r", after=4)
    assert [e["seq"] for e in other.events("r")] == [5, 6, 7]


def test_unary_is_one_delta_and_done(daemon):
    events = daemon(echo()).client().submit("u", prompt="a b c", stream=False)
    assert [e["ev"] for e in events] == ["accepted", "delta", "done"]
    assert (events[1]["first"], events[1]["seq"], events[1]["text"]) == (1, 3, "a b c")


def test_a_cancel_answers_the_asker_and_ends_every_reader(daemon):
    d = daemon(echo(gap_ms=60000))
    owner, reader, asker = d.client(), d.client(), d.client()
    owner.send(op="submit", id="c", prompt="a b c d e f g h i j k l m n o p")
    assert owner.wait(lambda e: e["ev"] == "delta")
    reader.send(op="attach", id="c")
    assert reader.wait(lambda e: e["ev"] == "delta")
    asker.send(op="cancel", id="c")
    assert asker.next() == {"ev": "cancelled", "id": "c"}
    for client in (owner, reader):
        end = client.events("c")[-1]
        assert (end["code"], end["status"], end["retryable"], "seq" in end) == ("cancelled", 499, False, True)
    asker.send(op="cancel", id="c")
    assert asker.next() == {"ev": "cancelled", "id": "c"}
    asker.send(op="result", id="c")
    result = asker.next()
    assert result["status"] == "cancelled" and result["error"]["code"] == "cancelled"
    asker.send(op="cancel", id="nobody")
    assert asker.next()["code"] == "not_found"


OTHER_USER = """
import msgpack, os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
unpacker = msgpack.Unpacker()
s.sendall(b"".join(msgpack.packb(m) for m in ({"op": "result", "id": "x"}, {"op": "submit", "id": "x", "prompt": "own"})))
while True:
    unpacker.feed(s.recv(4096))
    for event in unpacker:
        print(event["ev"], event.get("code"), event.get("text"))
        if event["ev"] == "done":
            sys.exit()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs to be another user")
def test_another_user_is_another_tenant(daemon):
    d = daemon(echo())
    assert d.client().submit("x", prompt="mine")[-1]["ev"] == "done"
    os.chmod(d.directory, 0o755)
    assert os.stat(d.socket + ".ctl").st_mode & 0o777 == 0o600
    out = subprocess.run([sys.executable, "-c", OTHER_USER, d.socket], capture_output=True, text=True, timeout=DEADLINE)
    assert out.stdout.split("\n")[:4] == ["error not_found None", "accepted None None", "delta None own", "done None None"], out


def test_a_socket_that_another_user_may_not_reach_stays_shut(daemon):
    d = daemon(echo())
    if os.getuid() != 0:
        pytest.skip("needs to be another user")
    os.chmod(d.directory, 0o700)
    out = subprocess.run([sys.executable, "-c", OTHER_USER, d.socket], capture_output=True, text=True, timeout=DEADLINE)
    assert "PermissionError" in out.stderr


def stage_program(role):
    return next(str(p) for p in BUILD.rglob(f"millrace-{role}") if p.is_file() and os.access(p, os.X_OK))


def test_restart_takes_the_programs_of_another_folder(daemon, tmp_path):
    d = daemon(echo(lanes=1))
    before = d.pid("post")
    refused_by = d.cli("restart", "post", "--exe", str(tmp_path))
    assert refused_by.returncode == 1 and d.pid("post") == before
    assert d.cli("restart", "post", "--exe", str(tmp_path / "nowhere")).returncode == 2
    shutil.copy(stage_program("post"), tmp_path / "millrace-post")
    answer = d.cli("restart", "post", "--exe", str(tmp_path), "--json")
    assert answer.returncode == 0 and json.loads(answer.stdout)["restarted"] == 1
    assert os.readlink(f"/proc/{d.pid('post')}/exe") == str(tmp_path / "millrace-post")
    assert d.client().submit("after", prompt="x")[-1]["ev"] == "done"


def test_a_program_that_does_not_start_is_given_up_for_the_old_one(daemon, tmp_path):
    d = daemon(echo(lanes=1))
    shutil.copy("/bin/false", tmp_path / "millrace-rag")
    answer = d.cli("restart", "rag", "--exe", str(tmp_path))
    assert answer.returncode == 1 and "does not start" in answer.stderr
    d.wait_ready("rag", 0, None)
    assert os.readlink(f"/proc/{d.pid('rag')}/exe") == os.path.realpath(stage_program("rag"))
    assert d.client().submit("after", prompt="x")[-1]["ev"] == "done"


def test_what_is_wrong_on_the_command_line_is_exit_2_and_nobody_there_is_3(tmp_path):
    def code(*arguments):
        return subprocess.run([MILLRACE, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE).returncode

    nobody = ["-s", str(tmp_path / "nobody.sock")]
    for arguments in (["--priority", "urgent", "x"], ["--deadline", "0", "x"], ["--rag", "maybe", "x"], ["--var", "x", "y"],
                      ["a", "b"], ["--nope", "x"]):
        assert code("submit", *nobody, *arguments) == 2, arguments
    for command in (["submit", "x"], ["result", "x"], ["cancel", "x"], ["status"], ["restart", "rag"], ["reload"], ["drain"]):
        assert code(command[0], *nobody, *command[1:]) == 3, command
    assert code("submit", *nobody, "--priority=bulk", "x") == 3
    assert code("nope") == 2
    assert code() == 2


def test_a_failed_add_says_what_the_index_holds(tmp_path):
    def index(*arguments):
        return subprocess.run([MILLRACE, "index", "--index", str(tmp_path / "i"), "--json", *arguments], input='{"id":"a","text":"some words"}\n',
                              capture_output=True, text=True, timeout=DEADLINE)

    assert json.loads(index("add", "-").stdout)["documents"] == 1
    again = index("add", str(tmp_path / "nothing"))
    assert again.returncode == 1 and json.loads(again.stdout)["documents"] == 1


@pytest.mark.parametrize("ring_bytes", [65536, 1048576])
def test_documents_that_do_not_fit_a_ring_are_left_out_and_nothing_dies(daemon, ring_bytes):
    d = daemon({"lanes": 1, "memory.ring_bytes": ring_bytes, "rag.top_k": 100, "rag.max_tokens": 1000000,
                "assemble.context_tokens": 10000000, "rag.timeout_ms": 20000})
    rows = "".join(json.dumps({"id": f"d{i}", "title": "t" * 200, "text": f'lane \x01 "ring" <document> number {i}. ' * 60}) + "\n"
                   for i in range(100))
    added = subprocess.run([MILLRACE, "index", "--index", d.index, "add", "-"], input=rows, capture_output=True, text=True)
    assert added.returncode == 0, added.stderr
    c = d.client()
    wait_for("the documents", lambda: c.submit(f"s{time.monotonic()}", prompt="lane ring number")[-1].get("sources"))
    before = [s["pid"] for s in d.status()["lanes"][0]["stages"]]
    for size in (0, 1000, 3000, 6000):
        assert c.submit(f"q{size}", prompt="lane ring number", system="w" * size)[-1]["ev"] == "done", size
    assert [s["pid"] for s in d.status()["lanes"][0]["stages"]] == before


FAULTS = "faults: on" in subprocess.run([MILLRACE, "--version"], capture_output=True, text=True).stdout


@pytest.mark.skipif(not FAULTS, reason="built without -Dfaults=true")
@pytest.mark.parametrize("stage", ["gateway", "rag", "assemble", "inference", "post", "stream"])
def test_a_fault_point_strikes_the_record_that_it_names(daemon, stage):
    d = daemon(echo(lanes=1), env={"MILLRACE_FAULT": f"{stage}:on_record:segv:match=POISON:count=1"})
    assert d.client().submit("plain", prompt="plain")[-1]["ev"] == "done"
    assert d.place(stage)["restarts"] == 0
    events = d.client().submit("poison", prompt="has POISON inside")
    wait_for("the restart", lambda: d.place(stage)["restarts"] == 1 and d.place(stage)["state"] == "ready")
    assert d.place(stage)["last_exit"] == "signal 11"
    if stage != "gateway":  # whose clients see their connection end
        assert events[-1]["ev"] == "done" and text_of(events) == "has POISON inside"
    assert d.client().submit("poison", prompt="has POISON inside")[-1]["ev"] == "done"
