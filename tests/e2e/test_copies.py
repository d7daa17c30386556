"""How often the body of a chat is copied on its way from the client's socket to the backend's. (Complaint C21.)

Every worker of a running daemon counts the bytes that it and its libraries copy (copies.c says what that sees). The
same request with a body that is longer by N bytes costs N bytes more for each copy, whatever else is copied.
"""

import struct
import uuid

import pytest

from backend import SCENARIOS
from conftest import BUILD, wait_for
from test_contract import stage_program
from test_http import answer, ask, backend, behind, body, connect, post  # noqa: F401

WORKERS = ["gateway", "rag", "assemble", "inference", "post", "stream"]
LIBRARY = BUILD / "tests/e2e/copies.so"
KIB = 1024


@pytest.fixture
def counted(daemon, backend, monkeypatch, tmp_path):
    """A daemon whose workers count, and what they have copied so far."""
    def brief(x):
        x.head()
        x.delta({"content": "ok"})
        x.delta({}, "stop")
        return x.done()

    monkeypatch.setitem(SCENARIOS, "brief", brief)
    for name in WORKERS:
        (tmp_path / name).write_bytes(bytes(8))
        program = tmp_path / f"millrace-{name}"
        program.write_text(f"#!/bin/sh\nMILLRACE_COPIES={tmp_path / name} LD_PRELOAD={LIBRARY} exec {stage_program(name)}\n")
        program.chmod(0o755)

    def copied():
        return {name: struct.unpack("=Q", (tmp_path / name).read_bytes())[0] for name in WORKERS}

    def make(**settings):
        d = behind(daemon, backend, **{"rag.index": "none", **settings})
        for name in WORKERS:
            assert d.cli("restart", name, "--exe", str(tmp_path)).returncode == 0, d.log()
        assert all(n > 0 for n in copied().values()), copied()
        return d

    make.copied = copied
    return make


def settled(d, copied):
    """What was copied when nothing runs any more."""
    wait_for("nothing in flight", lambda: d.status()["requests"]["in_flight"] == 0)
    last = copied()

    def same():
        nonlocal last
        before, last = last, copied()
        return before == last
    wait_for("the stages to be done", same, pause=0.1)
    return last


def copies_of(d, copied, send, n=220 * KIB):
    """Copies of a body of n bytes more, by worker."""
    def cost(size):
        before = settled(d, copied)
        send(size)
        after = settled(d, copied)
        return {name: after[name] - before[name] for name in WORKERS}

    cost(n)  # buffers are there now
    short, long = cost(n), cost(2 * n)
    return {name: (long[name] - short[name]) / n for name in WORKERS}


def chat(size, **more):
    return body("x" * size, model="brief", **more)


def ask_in_chunks(d, content):
    head = post(b"").partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    pieces = (content[at:at + 16384] for at in range(0, len(content), 16384))
    with connect(d) as s:
        s.sendall(head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n")
        return answer(s)


def plain(d, size):
    return ask(d, chat(size))


def streamed(d, size):
    return ask(d, chat(size, stream=True))


def named(d, size):
    return ask(d, chat(size), Idempotency_Key=str(uuid.uuid4()))


def in_chunks(d, size):
    return ask_in_chunks(d, chat(size))


@pytest.mark.parametrize("send, most", [(plain, 3), (streamed, 3), (named, 3), (in_chunks, 5)])
def test_c21_a_chat_is_copied_three_times_from_socket_to_socket(counted, send, most):
    """In chunks twice more: to where the chunk before it ends, and when the buffer becomes too small."""
    d = counted()

    def ask_once(size):
        assert send(d, size)[0] == 200

    found = copies_of(d, counted.copied, ask_once)
    assert sum(found.values()) < most + 0.2, found
    assert found["gateway"] > 0.9 and found["inference"] > 0.9, found  # it does count
