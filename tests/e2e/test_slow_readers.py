"""Clients that ask for long answers and never read: what each costs, and that nobody else notices. (Complaints C1 C2.)

docs/operations.md states the bounds; bench/run deaf measures them with 1,000 such clients.
"""

import json
import re
import socket

from conftest import DEADLINE, echo, wait_for
from test_http import ask, body, content, events, port, post, read_until, serve
from test_jobs import ask as ask_json

KIB = 1024
PRIVATE = 64 * KIB  # of the gateway's memory, for each
UNSENT = 48 * KIB   # in the kernel: 32 KiB before it takes no more, and the piece that came then
ANSWER = ("abcdefgh" * 6 + " ") * 4000  # larger than all that stands between the log and a client


def deaf(d):
    """As little as possible waits at the client's end."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(DEADLINE)
    s.connect(("127.0.0.1", port(d)))
    return s


def private_bytes(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1)) * KIB


def unsent(d):
    """Bytes that each connection of the daemon's port has yet to send."""
    here = f"{port(d):04X}"
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return [int(row[4].partition(":")[0], 16) for row in rows if row[1].endswith(f":{here}") and row[3] == "01"]


def stuck(d, n):
    """All n have been sent what fits, and no more."""
    last = []

    def same():
        nonlocal last
        before, last = last, unsent(d)
        return before == last and len([bytes for bytes in last if bytes > 0]) == n
    wait_for("the connections to be full", same, pause=0.2)
    return last


def test_c1_c2_who_never_reads_costs_a_bounded_amount_and_nobody_else_notices(daemon):
    d = serve(daemon, **{"stream.log_bytes": 64 << 20})
    gateway = d.pid("gateway")
    made = ask_json(d, "POST", "/v1/jobs", {"prompt": ANSWER})[2]
    for n in range(10):
        ask(d, body(f"warm {n}"))
    before = private_bytes(gateway)
    readers = [deaf(d) for _ in range(150)]  # of one answer
    for s in readers:
        s.sendall(f"GET {made['events_url']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    streams = [deaf(d) for _ in range(50)]   # of one each
    for s in streams:
        s.sendall(post(body(ANSWER, stream=True)))
    for n in range(20):
        status, _, text = ask(d, body(f"quick {n}"))
        assert status == 200 and json.loads(text)["choices"][0]["message"]["content"] == f"quick {n}"
    n = len(readers) + len(streams)
    kernel = stuck(d, n)
    assert max(kernel) < UNSENT, kernel
    assert private_bytes(gateway) - before < n * PRIVATE
    assert wait_for("the answers to have ended all the same", lambda: d.status()["requests"]["in_flight"] == 0) is True
    got = read_until(readers[0], b"\r\n0\r\n\r\n").decode()
    assert "".join(json.loads(e)["text"] for e in re.findall(r'^data: (\{"ev":"delta".*\})$', got, re.M)) == ANSWER
    got = read_until(streams[-1], b"[DONE]\n\n")
    assert content([json.loads(e) for e in events(got)[:-1]]) == ANSWER
    for s in readers + streams:
        s.close()
    wait_for("the connections", lambda: d.status()["gateways"][0]["connections"] == 0)
