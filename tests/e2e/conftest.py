"""Whole-daemon tests: the real binary, real sockets, private names; ends only what it started."""

import itertools
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import msgpack
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MILLRACE_BUILD", ROOT / "build-test"))
MILLRACE = str(BUILD / "millrace")
DEADLINE = float(os.environ.get("MILLRACE_TEST_DEADLINE", "60"))  # for anything that must come; only a hang reaches it
numbers = itertools.count(1)


def wait_for(what, condition, deadline=DEADLINE, pause=0.02):
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"waited {deadline} s for {what}")


def shm_objects(instance):
    prefix = f"millrace.{os.getuid()}.{instance}."
    return sorted(name for name in os.listdir("/dev/shm") if name.startswith(prefix))


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(word) for word in f.read().split()]
    except FileNotFoundError:
        return []


def title(pid):
    """What `ps` shows; "" when it is dead."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Client:
    """Ten lines of Python with msgpack, and a mailbox by request id."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        self.socket.connect(path)
        self.unpacker = msgpack.Unpacker(max_buffer_size=1 << 27)
        self.mail = []
        self.closed = False

    def send(self, **frame):
        self.raw(msgpack.packb(frame))

    def raw(self, data):
        """Sends, and reads meanwhile: a daemon whose answers nobody takes stops taking requests."""
        end = time.monotonic() + DEADLINE
        while data:
            readable, writable, _ = select.select([self.socket], [self.socket], [], max(0, end - time.monotonic()))
            assert readable or writable, "the daemon takes nothing"
            if writable:
                data = data[self.socket.send(data, socket.MSG_DONTWAIT):]
            elif readable:
                got = self.socket.recv(1 << 16)
                if not got:
                    raise BrokenPipeError
                self.unpacker.feed(got)
                self.mail.extend(self.unpacker)

    def next(self, deadline=DEADLINE):
        """The next event of any request; None when the daemon closed."""
        if self.mail:
            return self.mail.pop(0)
        return self._read(deadline)

    def _read(self, deadline):
        self.socket.settimeout(deadline)
        while True:
            for event in self.unpacker:
                return event
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                return None
            self.unpacker.feed(data)

    def wait(self, accept, deadline=DEADLINE):
        """The first event that `accept` takes; others stay in the mailbox."""
        for i, event in enumerate(self.mail):
            if accept(event):
                return self.mail.pop(i)
        while True:
            event = self._read(deadline)
            if event is None:
                return None
            if accept(event):
                return event
            self.mail.append(event)

    def submit(self, id, deadline=DEADLINE, **frame):
        """All events of one request, up to its end."""
        self.send(op="submit", id=id, **frame)
        return self.events(id, deadline)

    def events(self, id, deadline=DEADLINE):
        events = []
        while True:
            event = self.wait(lambda e: e.get("id") == id, deadline)
            if event is None:
                return events
            events.append(event)
            if event["ev"] in ("done", "error"):
                return events

    def close(self):
        self.socket.close()


def text_of(events):
    return "".join(e.get("text", "") for e in events if e["ev"] == "delta" and "kind" not in e)


def check_sequence(events, after=0):
    """Nothing missed, nothing twice: contract section 2."""
    last = after
    for event in events:
        if event["ev"] == "accepted" or not event.get("seq"):
            continue
        assert event.get("first", event["seq"]) == last + 1, (last, event)
        last = event["seq"]
    return last


class Daemon:
    def __init__(self, settings=None, config=None, env=None, arguments=(), name=None, directory=None):
        self.directory = directory or tempfile.mkdtemp(prefix="millrace-e2e-")
        self.owns_directory = directory is None
        self.instance = name or f"t{os.getpid()}-{next(numbers)}"
        self.socket = os.path.join(self.directory, "m.sock")
        self.index = os.path.join(self.directory, f"{self.instance}.index")
        self.log_path = os.path.join(self.directory, "log")
        self.env = {**os.environ, "XDG_STATE_HOME": self.directory, "STATE_DIRECTORY": self.directory,
                    "NO_COLOR": "1", "MILLRACE_SOCKET": self.socket, **(env or {})}
        command = [MILLRACE, "run", "--set", f"instance={self.instance}", "--set", f"socket={self.socket}"]
        # Daemons of one machine do not meet: no port is anybody's by number.
        for key, private in (("telemetry.listen", "none"), ("http.listen", '["127.0.0.1:0"]')):
            if not any(name.startswith(key) for name in settings or {}):
                command += ["--set", f"{key}={private}"]
        for key, value in (settings or {}).items():
            command += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        if config is not None:
            path = os.path.join(self.directory, "millrace.yaml")
            pathlib.Path(path).write_text(config)
            command += ["-c", path]
        self.command = command + list(arguments)
        self.process = None
        self.tolerated = "(?!)"  # `broken` lines that a test provokes

    def start(self, ready=True):
        self.log_file = open(self.log_path, "ab")
        self.log_from = self.log_file.tell()
        self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.DEVNULL,
                                        stdout=self.log_file, stderr=self.log_file)
        if ready:
            wait_for("the ready line", lambda: "millrace ready" in self.log() or self.process.poll() is not None)
            assert self.process.poll() is None, self.log()
        return self

    def log(self):
        with open(self.log_path, "r", errors="replace") as f:
            f.seek(self.log_from)
            return f.read()

    def client(self):
        return Client(self.socket)

    def http(self):
        """The addresses of the ready line."""
        found = re.search(r"^millrace ready .* http=(\S+) ", self.log(), re.M).group(1)
        return [] if found == "none" else found.split(",")

    def cli(self, *arguments, **options):
        return subprocess.run([MILLRACE, *arguments], env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=DEADLINE * 2, **options)

    def status(self):
        result = self.cli("status", "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def pid(self, stage, lane=0):
        status = self.status()
        if stage == "gateway":
            return status["gateways"][0]["pid"]
        if stage in ("telemetry", "watch"):
            return status[stage]["pid"]
        return next(s["pid"] for s in status["lanes"][lane]["stages"] if s["stage"] == stage)

    def place(self, stage, lane=0):
        status = self.status()
        if stage == "gateway":
            return status["gateways"][0]
        if stage in ("telemetry", "watch"):
            return status[stage]
        return next(s for s in status["lanes"][lane]["stages"] if s["stage"] == stage)

    def kill(self, stage, lane=0, sig=signal.SIGKILL):
        pid = self.pid(stage, lane)
        os.kill(pid, sig)
        return pid

    def standbys(self):
        """{role: pid} of the processes that wait for a crash."""
        found = ((title(pid).split(), pid) for pid in children(self.process.pid))
        return {words[2]: pid for words, pid in found if words and words[0] == "millrace-standby:"}

    def wait_standbys(self):
        """Of each stage and of the gateway."""
        return wait_for("all standbys", lambda: len(found := self.standbys()) == 6 and found)

    def wait_ready(self, stage, lane, not_pid):
        def ready():
            place = self.place(stage, lane)
            return place["state"] == "ready" and place["pid"] != not_pid and place
        return wait_for(f"{stage} to be ready again", ready)

    def stop(self, sig=signal.SIGTERM):
        """Ends the daemon; the exit code. Anything that would be our bug fails the test here."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the daemon did not end:\n" + self.log())
        return self.process.returncode if self.process else None

    def finish(self, check=True):
        code = self.stop()
        log = self.log() if self.process else ""
        leftovers = shm_objects(self.instance)
        for name in leftovers:
            os.unlink(os.path.join("/dev/shm", name))
        if self.owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        if check:
            broken = [line for line in re.findall(r"^broken .*", log, re.M) if not re.search(self.tolerated, line)]
            assert not broken, log
            assert leftovers == [] or code not in (0, None), (leftovers, log)


@pytest.fixture
def daemon():
    """A factory: daemon(settings…) gives a running daemon, ended and checked after the test."""
    started = []

    def make(settings=None, ready=True, **options):
        d = Daemon(settings, **options)
        started.append(d)
        return d.start(ready)

    yield make
    errors = []
    for d in reversed(started):  # a successor before the one whose folder it was given
        try:
            d.finish()
        except AssertionError as error:
            errors.append(error)
    assert not errors, "\n".join(str(e) for e in errors)


ECHO = {"inference.workers": [{"name": "local", "kind": "echo"}], "inference.models": {"*": ["local"]}}


def echo(gap_ms=0, delay_ms=0, **more):
    return {**ECHO, "inference.workers": [{"name": "local", "kind": "echo", "gap_ms": gap_ms, "delay_ms": delay_ms}],
            **more}
