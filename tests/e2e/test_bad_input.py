"""Whatever comes: one clear error, and the daemon goes on."""

import os
import pathlib
import socket
import subprocess
import uuid

import msgpack
import pytest

from conftest import ECHO, MILLRACE, Daemon, echo, shm_objects, text_of, wait_for


@pytest.fixture
def live(daemon):
    d = daemon({**ECHO, "inference.models": {"only": ["local"]}, "admission.max_body_bytes": 65536})
    yield d
    events = d.client().submit(str(uuid.uuid4()), prompt="still well", model="only")
    assert text_of(events) == "still well"
    assert all(s["restarts"] == 0 for lane in d.status()["lanes"] for s in lane["stages"])


@pytest.mark.parametrize("data", [b"\xc1", b"\x93\x01\x02\x03", b"hello there", b"\xa3abc", b"\x00", b"\xc0"])
def test_what_is_no_map_gets_one_error_and_the_connection_ends(live, data):
    c = live.client()
    c.raw(data)
    event = c.next()
    assert event["ev"] == "error" and event["code"] == "invalid_request" and "seq" not in event
    assert c.next() is None


@pytest.mark.parametrize("frame, word", [
    ({"op": "dance"}, "op"),
    ({"id": "x"}, "op"),
    ({"op": 7}, "op"),
    ({"op": "submit", "id": 7, "prompt": "x"}, "id"),
    ({"op": "submit", "id": "x" * 129, "prompt": "x"}, "id"),
    ({"op": "submit", "id": "a\nb", "prompt": "x"}, "id"),
    ({"op": "submit"}, "prompt"),
    ({"op": "submit", "prompt": 5}, "prompt"),
    ({"op": "submit", "prompt": "a", "body": "{}"}, "body"),
    ({"op": "submit", "messages": "hello"}, "messages"),
    ({"op": "submit", "messages": []}, "messages"),
    ({"op": "submit", "messages": [{"role": 1, "content": "x"}]}, "role"),
    ({"op": "submit", "body": "not json"}, "body"),
    ({"op": "submit", "body": "{\"messages\":1}"}, "messages"),
    ({"op": "submit", "prompt": "x", "deadline_ms": 0}, "deadline_ms"),
    ({"op": "submit", "prompt": "x", "deadline_ms": "soon"}, "deadline_ms"),
    ({"op": "submit", "prompt": "x", "rag": "yes"}, "rag"),
    ({"op": "submit", "prompt": "x", "stream": 1}, "stream"),
    ({"op": "submit", "prompt": "x", "session": 4}, "session"),
    ({"op": "submit", "prompt": "x", "vars": []}, "vars"),
    ({"op": "submit", "prompt": "x", "priority": "urgent"}, "priority"),
    ({"op": "submit", "prompt": "x", "params": 3}, "params"),
    ({"op": "attach"}, "id"),
    ({"op": "attach", "id": "x", "after": -1}, "after"),
    ({"op": "cancel"}, "id"),
    ({"op": "result", "id": 3}, "id"),
])
def test_a_wrong_field_is_named_and_the_connection_goes_on(live, frame, word):
    c = live.client()
    c.send(**{"model": "only", **frame} if frame.get("op") == "submit" else frame)
    event = c.next()
    assert event["ev"] == "error" and event["code"] == "invalid_request", event
    assert word in event["message"] and "seq" not in event
    c.send(op="ping")
    assert c.next() == {"ev": "pong"}


def test_an_unknown_model_is_refused(live):
    events = live.client().submit("m", prompt="x", model="gpt-none")
    assert events[-1]["code"] == "model_not_found" and events[-1]["status"] == 404
    assert "gpt-none" in events[-1]["message"]


def test_an_unknown_template_is_refused(live):
    events = live.client().submit("t", prompt="x", model="only", template="letter")
    assert events[-1]["code"] == "invalid_request" and "letter" in events[-1]["message"]


def test_a_body_over_the_limit_is_refused(live):
    c = live.client()
    events = c.submit("big", prompt="x" * 70000, model="only")
    assert events[-1]["code"] == "too_large" and events[-1]["status"] == 413


def test_depth_is_limited(live):
    c = live.client()
    c.raw(b"\x81\xa1x" * 40 + b"\x01")
    assert c.next()["code"] == "invalid_request"


def test_nil_means_absent_and_unknown_keys_are_ignored(live):
    events = live.client().submit("n", prompt="fine", model="only", session=None, deadline_ms=None, future={"a": [1]})
    assert text_of(events) == "fine"


def test_a_frame_in_single_bytes_is_a_frame(live):
    c = live.client()
    for byte in msgpack.packb({"op": "submit", "id": "slow", "prompt": "byte by byte", "model": "only"}):
        c.raw(bytes([byte]))
    assert text_of(c.events("slow")) == "byte by byte"


def refused(settings=None, config=None, arguments=(), name=None, env=None):
    d = Daemon(settings, config=config, arguments=arguments, name=name, env=env)
    try:
        d.start(ready=False)
        code = d.process.wait(60)
        return code, d.log()
    finally:
        d.finish()


@pytest.mark.parametrize("config, words", [
    ("lanes: many\n", ["millrace.yaml:1", "lanes"]),
    ("\nadmission:\n  max_in_flight: 0\n", ["millrace.yaml:3", "admission.max_in_flight", "1"]),
    ("admission:\n  max_in_fligth: 5\n", ["millrace.yaml:2", "max_in_fligth", "max_in_flight"]),
    ("inference:\n  workers:\n    - { name: a, kind: magic }\n", ["millrace.yaml:3", "kind", "echo"]),
    ("inference:\n  models: { x: [nobody] }\n", ["millrace.yaml:2", "nobody"]),
    ("a: [1\n", ["millrace.yaml:"]),
])
def test_a_bad_configuration_says_where_and_what(config, words):
    code, log = refused(config=config)
    assert code == 2, log
    for word in words:
        assert word in log, (word, log)
    assert len([line for line in log.splitlines() if line.strip()]) == 1, log


def test_a_bad_set_is_named():
    code, log = refused({"admission.queue": "lots"})
    assert code == 2 and "admission.queue" in log


def test_a_socket_path_that_is_too_long_is_refused(tmp_path):
    code, log = refused({"socket": "/tmp/" + "x" * 120})
    assert code == 2 and "103" in log  # 107, less the control socket's .ctl


def test_a_socket_that_is_taken_is_refused_and_named(daemon):
    d = daemon(ECHO)
    code, log = refused({"socket": d.socket})
    assert code == 2 and d.socket in log
    code, log = refused({"socket": d.socket + "2"}, name=d.instance)
    assert code == 2 and str(d.process.pid) in log
    assert text_of(d.client().submit("x", prompt="unharmed")) == "unharmed"


def test_a_stale_socket_file_is_replaced(daemon, tmp_path):
    path = str(tmp_path / "s.sock")
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.close()
    d = daemon({**ECHO, "socket": path})
    d.socket = path
    assert text_of(d.client().submit("x", prompt="replaced")) == "replaced"


def test_shared_memory_that_is_too_small_is_one_clear_error(tmp_path):
    """In a mount namespace of its own, /dev/shm has 8 MiB."""
    if os.getuid() != 0:
        pytest.skip("needs root for a mount namespace")
    d = Daemon(ECHO)
    script = ["sh", "-c", 'mount -t tmpfs -o size=8m none /dev/shm && "$@"; code=$?; ls /dev/shm; exit $code', "sh",
              *d.command]
    result = subprocess.run(["unshare", "-m", *script], env=d.env, capture_output=True, text=True, timeout=60)
    d.finish()
    if "unshare" in result.stderr and result.returncode == 1:
        pytest.skip("no mount namespaces here")
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and "/dev/shm" in lines[0], result.stderr
    assert any(ch.isdigit() for ch in lines[0])
    assert result.stdout.strip() == "", result.stdout


def test_a_foreign_index_is_named_and_requests_go_on(daemon, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("not an index")
    d = daemon({**ECHO, "rag.index": str(foreign)})
    assert text_of(d.client().submit("x", prompt="goes on")) == "goes on"
    assert wait_for("the log line", lambda: "retrieval_failed" in d.log())
    search = d.cli("index", "search", "--index", str(foreign), "x")
    assert search.returncode == 1 and str(foreign) in search.stderr
    assert d.cli("index", "search", "--index", str(tmp_path / "none"), "x").returncode == 1


def test_on_error_fail_refuses_without_an_index(daemon, tmp_path):
    d = daemon({**ECHO, "rag.index": str(tmp_path / "none"), "rag.on_error": "fail"})
    events = d.client().submit("x", prompt="needs documents")
    assert events[-1]["ev"] == "error" and events[-1]["code"] == "internal" and "retrieval" in events[-1]["message"]


def test_usage_errors_exit_2():
    for arguments in ([], ["dance"], ["submit", "a", "b"], ["cancel"], ["result"], ["restart"], ["status", "extra"],
                      ["config", "--wat"]):
        result = subprocess.run([MILLRACE, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert result.returncode == 2, (arguments, result)
        assert result.stderr and not result.stdout
    for arguments in (["--help"], ["--version"], ["submit", "--help"], ["run", "--help"], ["index", "--help"]):
        result = subprocess.run([MILLRACE, *arguments], capture_output=True, text=True)
        assert result.returncode == 0 and result.stdout, arguments
