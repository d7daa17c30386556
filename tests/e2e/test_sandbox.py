"""The sandbox of every worker of a running daemon, and that everything works in it. (tests/common/test_sandbox.c tries
from the inside what it refuses.)"""

import errno
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid

from backend import Backend
from conftest import DEADLINE, ECHO, MILLRACE, Daemon, text_of, wait_for

# A kernel without a system call, for the command that follows: number by name and the error it gives.
FORGET = """
import ctypes, os, sys
name, error, command = sys.argv[1].encode(), int(sys.argv[2]), sys.argv[3:]
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(0x7FFF0000)))
assert seccomp.seccomp_rule_add(context, ctypes.c_uint32(0x00050000 | error),
                                seccomp.seccomp_syscall_resolve_name(name), ctypes.c_uint(0)) == 0
assert seccomp.seccomp_load(context) == 0
os.execv(command[0], command)
"""


def workers(d):
    status = d.status()
    places = [*status["gateways"], status["telemetry"], *(s for lane in status["lanes"] for s in lane["stages"])]
    return [place["pid"] for place in places]


def process_status(path):
    return dict(re.findall(r"^(\w+):\s*(.*)$", pathlib.Path(path).read_text(), re.M))


def new_id():
    return str(uuid.uuid4())


def page_about(d, name, text):
    page = pathlib.Path(d.directory, name)
    page.write_text(text)
    added = d.cli("index", "add", "--index", d.index, str(page))
    assert added.returncode == 0, added.stderr


def sources_of(d, question):
    events = d.client().submit(new_id(), prompt=question)
    assert events[-1]["ev"] == "done", events[-1]
    return [source["id"].rsplit("/", 1)[-1] for source in events[-1].get("sources", [])]


# ---- what holds them -----------------------------------------------------------------------------

def test_every_thread_of_every_worker_is_held(daemon, tmp_path):
    with Backend() as backend:
        d = daemon({"inference.workers": [{"name": "gpu", "kind": "openai", "base_url": backend.url}],
                    "inference.models": {"*": ["gpu"]}, "telemetry.listen": f"unix:{tmp_path}/metrics"})
        pids, threads = workers(d), 0
        assert len(pids) >= 7
        for pid in pids:
            for task in os.listdir(f"/proc/{pid}/task"):
                status = process_status(f"/proc/{pid}/task/{task}/status")
                assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", status
                threads += 1
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 +0 ", limits, re.M), limits
        assert threads > len(pids), "rag's threads start inside"
        with socket.socket(socket.AF_UNIX) as metrics:
            metrics.connect(f"{tmp_path}/metrics")
            metrics.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"millrace_" in b"".join(iter(lambda: metrics.recv(65536), b""))


def test_a_successor_is_held_too(daemon):
    d = daemon(ECHO)
    for stage in ("rag", "inference", "gateway"):
        d.wait_ready(stage, 0, d.kill(stage))
        status = process_status(f"/proc/{d.pid(stage)}/status")
        assert status["Seccomp"] == "2" and status["NoNewPrivs"] == "1", status
    assert text_of(d.client().submit("after", prompt="still here")) == "still here"


# ---- what works in it ----------------------------------------------------------------------------

def test_an_index_that_comes_goes_and_comes_again_is_read(daemon):
    """Landlock lets rag into the folder that was there when it started: for another one it is started anew."""
    d = daemon({"lanes": 1})
    gates, sluices = "When is the iron gate closed?", "When is the iron sluice opened?"
    assert sources_of(d, gates) == []
    pid = d.pid("rag")
    page_about(d, "gates.md", "# Gates\n\nThe keeper closes the iron gate at nine.\n")
    time.sleep(1.1)  # it looks at most once a second, and the request that makes it look is one that finds
    assert sources_of(d, gates) == ["gates.md"]
    assert d.pid("rag") != pid
    pid = d.pid("rag")
    page_about(d, "wheels.md", "# Wheels\n\nAn overshot wheel takes its water from above.\n")
    wait_for("the same folder's news", lambda: sources_of(d, "Where does an overshot wheel take water?") == ["wheels.md"])
    assert d.pid("rag") == pid, "no successor is needed for what is in the folder"
    shutil.rmtree(d.index)
    wait_for("the index to be gone", lambda: sources_of(d, gates) == [])
    page_about(d, "sluices.md", "# Sluices\n\nThe iron sluice is opened at dawn.\n")
    wait_for("another folder", lambda: sources_of(d, sluices) == ["sluices.md"])
    log = d.log()
    assert "ev=death" not in log and len(re.findall(r"ev=renew .*why=index_replaced", log)) == 2, log


def test_a_backend_is_found_by_its_name(daemon):
    with Backend() as backend:
        url = backend.url.replace("127.0.0.1", "localhost")
        d = daemon({"inference.workers": [{"name": "gpu", "kind": "openai", "base_url": url}],
                    "inference.models": {"*": ["gpu"]}})
        events = d.client().submit(new_id(), prompt="by name", rag=False)
        assert events[-1]["ev"] == "done" and text_of(events) == "You said: by name"
        d.wait_ready("inference", 0, d.kill("inference"))
        assert text_of(d.client().submit(new_id(), prompt="again", rag=False)) == "You said: again"


# ---- kernels that lack something -----------------------------------------------------------------

def on_a_kernel_without(call, error, settings):
    d = Daemon(settings)
    d.command = [sys.executable, "-c", FORGET, call, str(error), *d.command]
    return d


def test_a_kernel_without_landlock_is_said_once_and_gone_on_with():
    d = on_a_kernel_without("landlock_create_ruleset", errno.ENOSYS, ECHO)
    try:
        d.start()
        assert text_of(d.client().submit(new_id(), prompt="all the same")) == "all the same"
        d.wait_ready("rag", 0, d.kill("rag"))
        assert len(re.findall(r"lacks=landlock", d.log())) == 1, d.log()
        # A filter of the test's own and the worker's.
        assert all(process_status(f"/proc/{pid}/status")["Seccomp_filters"] == "2" for pid in workers(d))
        checked = subprocess.run([*d.command[:5], MILLRACE, "check", "--json", "--set", "telemetry.listen=none",
                                  "--set", "http.listen=[]"],
                                 capture_output=True, text=True)
        assert '"check":"sandbox","state":"warn"' in checked.stdout
    finally:
        d.finish()


def test_a_kernel_without_seccomp_is_refused_with_the_remedy():
    d = on_a_kernel_without("seccomp", errno.EINVAL, ECHO)
    try:
        d.start(ready=False)
        assert d.process.wait(DEADLINE) == 2
        assert "CONFIG_SECCOMP_FILTER" in d.log()
    finally:
        d.finish()
