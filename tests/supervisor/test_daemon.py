"""The supervisor with stages that misbehave on demand (fake_stage.c): whole-process tests."""

import ctypes
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

import msgpack
import pytest

SUPERVISOR = os.environ["MILLRACE_SUPERVISOR"]
FAKE_STAGE = os.environ["MILLRACE_FAKE_STAGE"]
ROLES = ["rag", "assemble", "inference", "post", "stream", "gateway", "telemetry", "watch"]
LONG = 60  # seconds to wait for what must happen
LISTENER, DRAIN, LEAVE, CUT, CLOSE, LANE = 5, 8, 9, 13, 14, 16
ARENA = 5  # the kind of object


def until(what, why, seconds=LONG):
    """The first true value of what()."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        assert time.monotonic() < end, f"waited in vain: {why}"
        time.sleep(0.02)


class Control:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LONG)
        self.socket.connect(str(path))
        self.unpacker = msgpack.Unpacker()

    def send(self, **request):
        self.socket.sendall(msgpack.packb(request))

    def answer(self):
        while True:
            for value in self.unpacker:
                return value
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:  # closed before it had read everything
                return None
            if not data:
                return None
            self.unpacker.feed(data)

    def ask(self, **request):
        self.send(**request)
        return self.answer()


class Daemon:
    n = 0

    def __init__(self, folder, *args, instance=None, sets=(), config=None, env=None, http="[]", **popen):
        Daemon.n += 1
        self.folder = folder
        self.instance = instance or f"test-{os.getpid()}-{Daemon.n}"
        self.path = folder / "s"
        self.log_path = folder / f"log.{Daemon.n}"
        exes = folder / "exe"
        if not exes.exists():
            exes.mkdir()
            for role in ROLES:
                (exes / f"millrace-{role}").symlink_to(FAKE_STAGE)
        command = [SUPERVISOR, "--exe-dir", exes, "-s", self.path]
        private = [f"http.listen={http}"] if http else []
        for one in ["lanes=1", "telemetry.listen=none", *private, f"instance={self.instance}", *sets]:
            command += ["--set", one]
        if config:
            command += ["-c", config]
        environment = {**os.environ, **(env or {})}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, *args], stderr=log, env=environment, cwd=folder, **popen
            )

    def log(self):
        return self.log_path.read_text()

    def says(self, text):
        until(lambda: text in self.log() or self.process.poll() is not None, f"log: {text}")
        assert text in self.log(), self.log()

    def ready(self):
        self.says("millrace ready")
        return self

    def control(self):
        return Control(f"{self.path}.ctl")

    def status(self):
        answer = self.control().ask(op="status")
        assert answer["ok"], answer
        return answer["status"]

    def stage(self, name, lane=0):
        status = self.status()
        if name in ("gateway", "telemetry", "watch"):
            return status["gateways"][0] if name == "gateway" else status[name]
        return next(s for s in status["lanes"][lane]["stages"] if s["stage"] == name)

    def pids(self):
        status = self.status()
        found = {"gateway": status["gateways"][0]["pid"], "telemetry": status["telemetry"]["pid"]}
        for lane in status["lanes"]:
            for s in lane["stages"]:
                found[f"{s['stage']}.{lane['lane']}"] = s["pid"]
        return found

    def standbys(self):
        """{role: pid} of the processes that wait."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        titles = ((pathlib.Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split(), pid) for pid in children)
        return {words[2]: int(pid) for words, pid in titles if words and words[0] == "millrace-standby:"}

    def behave(self, *lines):
        new = self.folder / "behaviour.new"
        new.write_text("".join(line + "\n" for line in lines))
        new.rename(self.folder / "behaviour")

    def seen(self, pid):
        path = self.folder / f"seen.{pid}"
        return path.read_text() if path.exists() else ""

    def listeners(self, pid):
        """Kind and index of each that it was given."""
        return re.findall(r"^listener (\d+ \d+)$", self.seen(pid), re.M)

    def was_told(self, pid, message):
        return f"message {message}\n" in self.seen(pid)

    def objects(self):
        return [p.name for p in pathlib.Path("/dev/shm").glob(f"millrace.*.{self.instance}.*")]

    def end(self, seconds=LONG):
        self.process.wait(seconds)
        return self.process.returncode

    def drain(self):
        self.process.send_signal(signal.SIGTERM)
        return self.end()


@pytest.fixture
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="millrace-test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run(folder):
    started = []

    def start(*args, **options):
        started.append(Daemon(folder, *args, **options))
        return started[-1]

    yield start
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
        for name in daemon.objects():
            pathlib.Path("/dev/shm", name).unlink(missing_ok=True)


def one_line(daemon, code=2):
    """What a refused start says: one line and nothing left behind."""
    assert daemon.end() == code, daemon.log()
    lines = [line for line in daemon.log().splitlines() if line.startswith("millrace run: ")]
    assert len(lines) == 1, daemon.log()
    return lines[0]


# ---- refusals at the start ---------------------------------------------------------------------------


def test_an_unknown_option_is_exit_2(run):
    assert run("--frobnicate").end() == 2


def test_a_bad_value_names_its_key_and_leaves_nothing(run):
    daemon = run(sets=["lanes=900"])
    assert "lanes" in one_line(daemon)
    assert not daemon.objects()


def test_an_unknown_key_in_the_file_is_named_with_its_line(run, folder):
    config = folder / "c.yaml"
    config.write_text("rag:\n  top_k: 5\n  frobnicate: 1\n")
    line = one_line(run(config=config))
    assert f"{config}:3" in line and "frobnicate" in line


def test_a_missing_program_is_named(run, folder):
    line = one_line(run("--exe-dir", folder / "nowhere"))
    assert "millrace-rag" in line and "nowhere" in line


def test_a_socket_path_that_is_too_long_names_the_limit(run, folder):
    line = one_line(run("-s", folder / ("x" * 120)))
    assert "107" in line


def test_an_instance_name_that_would_leave_its_place_is_refused(run):
    assert "instance" in one_line(run(instance="a.b"))


def test_too_little_shared_memory_is_one_line_with_both_sizes(run):
    daemon = run(sets=["stream.log_bytes=17179869184", "lanes=8"])
    line = one_line(daemon)
    assert re.search(r"\d+ bytes .* are needed", line) and "are free" in line
    assert not daemon.objects()
    assert not daemon.path.exists()


def test_a_taken_telemetry_port_is_named(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = run(sets=[f"telemetry.listen={where}"])
        assert where in one_line(daemon)
        assert not daemon.objects()


def test_a_taken_socket_is_named_and_left_alone(run, folder):
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(folder / "s"))
        taken.listen()
        daemon = run()
        assert str(folder / "s") in one_line(daemon)
        assert (folder / "s").exists()
        assert not daemon.objects()


def test_a_second_run_names_the_first_whatever_its_socket(run, folder):
    first = run().ready()
    pids = first.pids()
    second = run("-s", folder / "other", instance=first.instance)
    line = one_line(second)
    assert f"pid {first.process.pid}" in line and str(first.path) in line
    assert first.pids() == pids
    assert first.drain() == 0


def test_forbidden_io_uring_is_one_line_with_the_remedy(run):
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p

    def forbid():
        context = ctypes.c_void_p(seccomp.seccomp_init(0x7FFF0000))
        seccomp.seccomp_rule_add(context, 0x00050000 | 1, 425, 0)  # EPERM for io_uring_setup
        seccomp.seccomp_load(context)

    line = one_line(run(preexec_fn=forbid))
    assert "io_uring" in line and "seccomp" in line


def test_a_stage_that_cannot_work_ends_the_start_with_exit_2(run):
    daemon = run().ready()
    assert daemon.drain() == 0
    daemon.behave("post exit 70")
    again = run()
    assert again.end() == 2
    assert "told to fail" in again.log()
    assert not again.objects()


def test_a_stage_that_never_starts_ends_the_start_with_exit_1(run, folder):
    (folder / "behaviour").write_text("assemble exit 1\n")
    daemon = run()
    assert daemon.end() == 1
    assert not daemon.objects()
    assert not daemon.path.exists()


def test_crashes_in_recovery_escalate(run, folder):
    (folder / "behaviour").write_text("stream crash_start\n")
    daemon = run()
    assert daemon.end() == 1
    assert daemon.log().count("ev=lane_reset stage=stream") == 1  # before anybody was let in
    assert daemon.log().count("ev=escalate") == 1
    assert not daemon.objects()


def test_who_is_killed_before_it_can_tell_of_it_takes_no_lane_with_it(run):
    daemon = run().ready()
    daemon.behave("assemble crash_early", "inference crash_early", "post crash_early")
    for stage in ("assemble", "inference", "post"):
        os.kill(daemon.pids()[f"{stage}.0"], signal.SIGKILL)
    until(lambda: daemon.log().count("cause=early") >= 4, "early deaths")
    daemon.behave()
    until(lambda: all(s["state"] == "ready" for s in daemon.status()["lanes"][0]["stages"]), "all stages")
    assert "ev=lane_reset" not in daemon.log() and "cause=crash" not in daemon.log()
    assert all("blame 0" in daemon.seen(pid) for pid in daemon.pids().values())
    assert daemon.drain() == 0


def test_a_standby_that_dies_before_it_is_anybody_counts_for_nothing(run):
    daemon = run().ready()
    waits = until(lambda: daemon.standbys().get("post"), "a standby")
    daemon.behave("post crash_early")
    os.kill(daemon.pids()["post.0"], signal.SIGKILL)
    until(lambda: "cause=early" in daemon.log(), "the death of a new process")
    daemon.behave()
    until(lambda: daemon.stage("post")["state"] == "ready", "post")
    deaths = re.findall(r"ev=death stage=post .* pid=(\d+) last_exit=\"(.*)\" cause=(.*)", daemon.log())
    assert [death[1:] for death in deaths[:3]] == [("signal 9", "killed"), ("signal 6", "killed"),
                                                   ("signal 6", "early")]
    assert deaths[1][0] == str(waits)
    assert daemon.drain() == 0


# ---- start -----------------------------------------------------------------------------------------------


def test_the_ready_line_is_as_promised(run):
    daemon = run(sets=["lanes=2"]).ready()
    line = f"millrace ready pid={daemon.process.pid} socket={daemon.path} http=none lanes=2"
    assert line in daemon.log().splitlines()
    assert daemon.drain() == 0


def test_the_http_listeners_are_said_opened_handed_over_and_kept(run, folder):
    listen = f'http.listen=["127.0.0.1:0", "unix:{folder}/h", "localhost:0"]'
    daemon = run(sets=[listen, "gateways=2", "lanes=2"]).ready()
    http = re.search(r"^millrace ready pid=\d+ socket=\S+ http=(\S+) lanes=2$", daemon.log(), re.M).group(1).split(",")
    assert re.fullmatch(r"127\.0\.0\.1:\d{2,5}", http[0]) and re.fullmatch(r"localhost:\d{2,5}", http[2])
    assert http[1] == f"unix:{folder}/h" and stat.S_IMODE(os.stat(folder / "h").st_mode) == 0o666
    assert daemon.status()["http"] == http
    for gateway in daemon.status()["gateways"]:
        assert daemon.listeners(gateway["pid"]) == ["1 0", "3 0", "3 1", "3 2"]
    assert daemon.listeners(daemon.pids()["rag.0"]) == []
    # Kept over a restart: who connects while nobody is there waits for the successor.
    first = socket.create_connection(("127.0.0.1", int(http[0].split(":")[1])), LONG)
    assert daemon.control().ask(op="restart", stage="gateway")["ok"]
    assert daemon.status()["http"] == http
    first.close()
    assert daemon.drain() == 0
    assert not (folder / "h").exists()


def test_sixteen_http_listeners_are_as_many_as_can_be(run, folder):
    names = ", ".join(f'"unix:{folder}/{i}"' for i in range(16))
    daemon = run(sets=[f"http.listen=[{names}]"]).ready()
    assert len(daemon.status()["http"]) == 16 and len(daemon.listeners(daemon.pids()["gateway"])) == 17
    assert daemon.drain() == 0


def test_an_http_address_that_is_taken_is_refused_and_named(run, folder):
    first = run(sets=['http.listen=["127.0.0.1:0"]']).ready()
    taken = first.status()["http"][0]
    second = run("-s", folder / "other", sets=[f'http.listen=["unix:{folder}/h", "{taken}"]'])
    assert second.end() == 2
    assert (f"millrace run: http.listen.1: cannot listen on {taken}: Address already in use "
            "(another process has it: name a free port, or http.listen: [] for none)") in second.log()
    assert not (folder / "h").exists() and not second.objects()
    second = run("-s", folder / "other", sets=[f'http.listen=["unix:{first.path}"]'])
    assert second.end() == 2
    assert f"millrace run: http.listen.0: socket {first.path} is taken: " in second.log()
    assert first.drain() == 0
    # What the one gave back, the next one has.
    assert run(sets=[f'http.listen=["{taken}"]']).ready().drain() == 0


def test_an_http_address_that_anybody_can_reach_is_refused_without_keys(run):
    daemon = run(sets=['http.listen=["0.0.0.0:0"]'])
    assert daemon.end() == 2
    assert "http.listen.0: found 0.0.0.0:0, expected a loopback address or unix:PATH" in daemon.log()


def test_the_next_supervisor_opens_the_http_listeners_anew(run, folder):
    daemon = run(sets=[f'http.listen=["127.0.0.1:0", "unix:{folder}/h"]']).ready()
    port = daemon.status()["http"][0]
    daemon.process.kill()
    daemon.end()
    successor = run(instance=daemon.instance, sets=[f'http.listen=["{port}", "unix:{folder}/h"]']).ready()
    assert successor.status()["http"] == [port, f"unix:{folder}/h"]
    assert successor.drain() == 0


def test_a_reload_that_changes_the_http_listeners_is_refused(run, folder):
    (folder / "c.yaml").write_text('http: {listen: ["127.0.0.1:0"]}\n')
    daemon = run(config=folder / "c.yaml", http=None).ready()
    (folder / "c.yaml").write_text("http: {listen: []}\n")
    answer = daemon.control().ask(op="reload")
    assert answer["code"] == "restart_required" and answer["keys"] == ["http.listen"]
    assert daemon.drain() == 0


def test_systemd_is_told(run, folder):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(folder / "notify"))
        notify.settimeout(LONG)
        daemon = run(env={"NOTIFY_SOCKET": str(folder / "notify")})
        assert notify.recv(100) == b"READY=1"
        daemon.process.send_signal(signal.SIGTERM)
        assert notify.recv(100) == b"STOPPING=1"
        assert daemon.end() == 0


def test_consumers_start_before_producers_and_gateways_last(run):
    daemon = run(sets=["lanes=2"]).ready()
    pids = daemon.pids()
    order = [pids[f"{role}.0"] for role in ("stream", "post", "inference", "assemble", "rag")]
    assert order == sorted(order)
    assert pids["gateway"] == max(pids.values())
    assert daemon.drain() == 0


def test_the_stages_of_a_lane_have_its_core(run):
    daemon = run(sets=["lanes=2"]).ready()
    cores = sorted(os.sched_getaffinity(0))
    for lane in daemon.status()["lanes"]:
        core = cores[lane["lane"] % len(cores)]
        assert lane["core"] == core
        for stage in lane["stages"]:
            assert os.sched_getaffinity(stage["pid"]) == {core}
    assert os.sched_getaffinity(daemon.pids()["gateway"]) == set(cores)
    assert daemon.drain() == 0


def test_a_worker_has_a_short_environment_and_no_descriptors_of_ours(run):
    config = {"MY_SECRET": "x", "PATH": os.environ["PATH"]}
    workers = "inference.workers=[{name: a, kind: openai, base_url: 'http://127.0.0.1:1', "
    workers += "api_key_env: MY_SECRET}]"
    daemon = run(env=config, sets=[workers, "inference.models={'*': [a]}"]).ready()
    for role, pid in daemon.pids().items():
        text = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        assert (b"MY_SECRET=x" in text) == (role == "inference.0"), role
        assert b"MILLRACE_SUPERVISOR" not in text
        links = {int(p.name): os.readlink(p) for p in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
        assert links[0] == links[1] == "/dev/null"
        assert links[3].startswith("socket:")
        # what the fake stage writes, its own bell, and the lock
        assert sorted(links)[4:] == [4, 5, 6] and any(l.endswith(".lock") for l in links.values())
    assert daemon.drain() == 0


# ---- death -------------------------------------------------------------------------------------------------


def test_who_is_killed_comes_back_alone(run):
    daemon = run(sets=["lanes=2"]).ready()
    before = daemon.pids()
    os.kill(before["post.1"], signal.SIGKILL)
    until(lambda: daemon.stage("post", 1)["restarts"] == 1, "a restart")
    until(lambda: daemon.stage("post", 1)["state"] == "ready", "ready")
    after = daemon.pids()
    assert {r for r in before if before[r] != after[r]} == {"post.1"}
    stage = daemon.stage("post", 1)
    assert stage["last_exit"] == "signal 9" and daemon.status()["state"] == "running"
    assert "blame 0 epoch 2" in daemon.seen(after["post.1"])
    assert daemon.drain() == 0


def test_the_neighbours_of_the_dead_are_rung_and_nobody_else(run):
    daemon = run(sets=["lanes=2"]).ready()
    pids = daemon.pids()
    os.kill(pids["post.0"], signal.SIGKILL)
    for neighbour in ("inference.0", "stream.0"):
        until(lambda: "rung 1\n" in daemon.seen(pids[neighbour]), f"{neighbour} to be rung")
    for other in ("rag.0", "assemble.0", "stream.1", "gateway", "telemetry"):
        assert "rung" not in daemon.seen(pids[other]), other
    assert daemon.drain() == 0


def test_kills_from_outside_are_not_counted(run):
    daemon = run().ready()
    for n in range(1, 13):
        os.kill(daemon.stage("rag")["pid"], signal.SIGKILL)
        until(
            lambda: daemon.stage("rag")["restarts"] == n
            and daemon.stage("rag")["state"] == "ready",
            f"restart {n}",
        )
    assert "ev=down" not in daemon.log()
    assert daemon.drain() == 0


def test_six_crashes_bring_a_stage_down_and_restart_brings_it_back(run):
    daemon = run(sets=["supervisor.restart_burst=2"]).ready()
    for n in range(3):
        pid = until(
            lambda: daemon.stage("assemble")["state"] == "ready" and daemon.stage("assemble")["pid"],
            "ready",
        )
        os.kill(pid, signal.SIGSYS)  # as seccomp does: a crash of its own
        until(lambda: daemon.stage("assemble")["pid"] != pid, "its death")
    until(lambda: daemon.stage("assemble")["state"] == "down", "down")
    status = daemon.status()
    assert status["state"] == "degraded"
    assert daemon.stage("assemble")["pid"] is None
    assert daemon.stage("assemble")["last_exit"] == "signal 31"
    answer = daemon.control().ask(op="restart", stage="assemble")
    assert answer == {"ok": True, "op": "restart", "restarted": 1}
    assert daemon.stage("assemble")["state"] == "ready"
    assert daemon.status()["state"] == "running"
    assert "blame 1" in daemon.seen(daemon.stage("assemble")["pid"])
    assert daemon.drain() == 0


def test_inconsistent_memory_ends_the_daemon_and_is_not_kept(run):
    daemon = run().ready()
    daemon.behave("stream exit 71")
    os.kill(daemon.stage("stream")["pid"], signal.SIGKILL)
    assert daemon.end() == 1
    assert daemon.log().count("done=1") == 1  # the lane was reset once, in vain
    lines = [line for line in daemon.log().splitlines() if "ev=escalate" in line]
    assert len(lines) == 1 and lines[0].startswith("error ") and "less than 10 minutes ago" in lines[0]
    assert not daemon.objects()


def inodes(daemon):
    return {name.split(daemon.instance + ".")[1]: (pathlib.Path("/dev/shm") / name).stat().st_ino
            for name in daemon.objects()}


def exits_71_once(daemon, who):
    """That role, the next time it starts; returns the others' pids."""
    pids = daemon.pids()
    daemon.behave(f"{who} exit 71")
    os.kill(pids[who], signal.SIGKILL)
    daemon.says('last_exit="exit 71"')
    daemon.behave()
    return pids


def test_a_reset_makes_the_lanes_objects_anew_and_starts_its_five_stages(run):
    daemon = run(sets=["lanes=2"]).ready()
    before = inodes(daemon)
    pids = exits_71_once(daemon, "post.1")
    until(lambda: daemon.status()["lanes"][1]["resets"] == 1 and daemon.status()["state"] == "running", "reset")
    until(lambda: all(s["state"] == "ready" for s in daemon.status()["lanes"][1]["stages"]), "ready")
    after, now = daemon.pids(), inodes(daemon)
    changed = {who for who in pids if pids[who] != after[who]}
    assert changed == {f"{stage}.1" for stage in ROLES[:5]}
    assert set(now) == set(before)
    anew = {name for name in now if now[name] != before[name]}
    assert {name for name in anew if not name.startswith("ring")} == {
        "slab.1.rag", "slab.1.inference", "slab.1.post", "log.1"}
    assert {int(name.split(".")[1]) for name in anew if name.startswith("ring")} == set(range(14, 27))
    said = daemon.seen(pids["gateway"])
    after_leaving = said[said.index("left lane 1 generation 1"):]
    given = re.findall(r"^object (\d+) (\d+) \d+ (\d)", after_leaving, re.M)
    # of its four rings both sides, one of them to write into; the log; then LANE
    assert [kind for kind, _, _ in given] == ["1", "2"] * 4 + ["6"]
    assert [writable for _, _, writable in given] == list("10" "10" "01" "10" "0")
    assert [line for line in after_leaving.splitlines() if "message" in line][-1] == f"message {LANE}"
    assert daemon.drain() == 0
    assert not daemon.objects()


def test_a_reset_waits_for_the_gateway_and_its_death_is_as_good(run):
    daemon = run().ready()
    pids = daemon.pids()
    daemon.behave("gateway clings", "rag exit 71")
    os.kill(pids["rag.0"], signal.SIGKILL)
    until(lambda: daemon.status()["lanes"][0]["state"] == "resetting", "the reset")
    until(lambda: daemon.stage("stream")["pid"] is None, "the end of its stages")
    assert daemon.status()["state"] == "degraded"
    time.sleep(0.2)
    assert "done=1" not in daemon.log()
    daemon.behave()
    os.kill(pids["gateway"], signal.SIGKILL)
    until(lambda: daemon.status()["state"] == "running", "its end")
    gateway = daemon.stage("gateway")["pid"]
    until(lambda: daemon.stage("gateway")["state"] == "ready", "ready")
    # started when everything was new: it was given it from the beginning
    assert "left lane" not in daemon.seen(gateway)
    log = daemon.log()
    assert log.index("done=1") < log.index("ev=ready stage=gateway", log.index("ev=lane_reset"))
    assert daemon.drain() == 0


def test_a_gateway_that_names_a_lane_has_it_reset(run):
    daemon = run(sets=["lanes=2"]).ready()
    pids = daemon.pids()
    daemon.behave("gateway broken 1")
    daemon.says("ev=death stage=gateway")
    daemon.behave()
    until(lambda: daemon.status()["lanes"][1]["resets"] == 1 and daemon.status()["state"] == "running", "reset")
    until(lambda: daemon.stage("gateway")["state"] == "ready", "ready")
    after = daemon.pids()
    assert after["rag.0"] == pids["rag.0"] and after["rag.1"] != pids["rag.1"]
    assert daemon.drain() == 0


def test_a_gateway_whose_trouble_is_no_lanes_ends_the_daemon(run):
    daemon = run().ready()
    daemon.behave("gateway exit 71")
    os.kill(daemon.pids()["gateway"], signal.SIGKILL)
    assert daemon.end() == 1
    assert "ev=lane_reset" not in daemon.log()
    assert "no lane's trouble" in daemon.log()
    assert not daemon.objects()


def test_telemetry_never_ends_the_daemon(run):
    daemon = run().ready()
    daemon.behave("telemetry exit 71")
    os.kill(daemon.pids()["telemetry"], signal.SIGKILL)
    until(lambda: daemon.stage("telemetry")["state"] == "down", "down")
    daemon.behave()
    assert daemon.control().ask(op="restart", stage="telemetry")["ok"]
    assert daemon.status()["state"] == "running"
    assert daemon.drain() == 0


def test_a_watcher_that_does_not_start_is_down_and_the_daemon_runs(run, tmp_path):
    daemon = run(sets=[f"rag.watch=[{tmp_path}]", f"rag.index={tmp_path}/i.index"])
    daemon.behave("watch exit 70")
    daemon.ready()
    until(lambda: daemon.stage("watch")["state"] == "down", "down")
    assert daemon.status()["state"] == "degraded"
    daemon.behave("watch exit 71")
    assert not daemon.control().ask(op="restart", stage="watch")["ok"]
    daemon.behave()
    assert daemon.control().ask(op="restart", stage="watch")["ok"]
    assert daemon.status()["state"] == "running"
    assert daemon.drain() == 0


def test_a_drain_during_a_reset_ends_in_order(run):
    daemon = run().ready()
    pids = daemon.pids()
    daemon.behave("gateway clings", "rag exit 71")
    os.kill(pids["rag.0"], signal.SIGKILL)
    until(lambda: daemon.status()["lanes"][0]["state"] == "resetting", "the reset")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.says("ev=drain")
    daemon.behave()
    assert daemon.end() == 0
    assert not daemon.objects()


def test_a_reset_that_a_killed_supervisor_began_is_finished_by_the_next(run):
    first = run(sets=["lanes=2"]).ready()
    pids = first.pids()
    first.behave("gateway clings", "rag.1 exit 71")
    os.kill(pids["rag.1"], signal.SIGKILL)
    until(lambda: first.status()["lanes"][1]["state"] == "resetting", "the reset")
    before = inodes(first)
    first.behave()
    first.process.kill()
    first.process.wait()
    second = run(sets=["lanes=2"], instance=first.instance).ready()
    assert "repeated" in second.log()
    after = inodes(second)
    assert after["log.1"] != before["log.1"] and after["log.0"] == before["log.0"]
    assert after["admission.0"] == before["admission.0"]
    status = second.status()
    assert [lane["resets"] for lane in status["lanes"]] == [0, 1]
    assert status["state"] == "running"
    assert second.drain() == 0
    assert not second.objects()


def test_a_permanent_failure_while_running_leaves_the_rest_alone(run):
    daemon = run().ready()
    daemon.behave("telemetry exit 70")
    os.kill(daemon.pids()["telemetry"], signal.SIGKILL)
    until(lambda: daemon.stage("telemetry")["state"] == "down", "down")
    assert daemon.stage("telemetry")["last_exit"] == "exit 70"
    assert daemon.drain() == 0


def test_who_gives_no_sign_of_life_is_replaced(run):
    daemon = run(sets=["supervisor.heartbeat_timeout_ms=1000"]).ready()
    daemon.behave("rag mute")
    until(lambda: daemon.stage("rag")["last_exit"] == "signal 6", "the watchdog")
    assert "why=no_heartbeat" in daemon.log()
    daemon.behave()
    until(lambda: daemon.stage("rag")["state"] == "ready", "ready")
    assert daemon.drain() == 0


def test_a_stopped_process_is_not_taken_for_dead(run):
    daemon = run(sets=["supervisor.heartbeat_timeout_ms=2000"]).ready()
    pid = daemon.stage("rag")["pid"]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(pid, signal.SIGCONT)
    time.sleep(2.5)
    assert daemon.stage("rag")["pid"] == pid
    assert daemon.drain() == 0


def test_who_does_not_become_ready_is_replaced(run):
    daemon = run(sets=["admission.max_in_flight=1"]).ready()
    daemon.behave("rag never_ready")
    os.kill(daemon.stage("rag")["pid"], signal.SIGKILL)
    daemon.says("why=not_ready_in_time")
    daemon.behave()
    until(lambda: daemon.stage("rag")["state"] == "ready", "ready")
    assert daemon.drain() == 0


# ---- the supervisor's own death ------------------------------------------------------------------------


def test_the_next_run_takes_over_what_a_killed_supervisor_left(run):
    first = run().ready()
    pids = first.pids()
    objects = set(first.objects())
    first.process.kill()
    first.process.wait()
    for pid in pids.values():
        until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "its workers' end")
    assert set(first.objects()) == objects
    second = run(instance=first.instance).ready()
    assert re.search(r"ev=adopt objects=\d+ generation=\d+", second.log())
    assert "epoch 2" in second.seen(second.stage("rag")["pid"])
    assert second.drain() == 0
    assert not second.objects()


def test_leftovers_of_other_settings_are_refused_and_discarded_when_asked(run):
    first = run().ready()
    first.process.kill()
    first.process.wait()
    assert "--discard" in one_line(run(instance=first.instance, sets=["lanes=2"]))
    assert first.objects()
    third = run("--discard", instance=first.instance, sets=["lanes=2"]).ready()
    assert third.drain() == 0
    assert not third.objects()


# ---- drain -------------------------------------------------------------------------------------------------


def test_a_drain_leaves_stage_by_stage_and_nothing_behind(run):
    daemon = run(sets=["lanes=2"]).ready()
    pids = daemon.pids()
    assert daemon.drain() == 0
    exits = re.findall(r"ev=exit stage=(\w+)", daemon.log())
    stages = ["rag", "assemble", "inference", "post", "stream"]
    assert exits == [s for s in stages for _ in range(2)] + ["gateway", "telemetry"]
    assert daemon.was_told(pids["gateway"], DRAIN)
    assert not daemon.objects()
    assert not daemon.path.exists() and not daemon.path.with_name("s.ctl").exists()


def test_a_drain_waits_for_the_last_request(run):
    daemon = run().ready()
    daemon.behave("gateway busy")
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: daemon.status()["state"] == "draining", "draining")
    assert daemon.status()["gateways"][0]["state"] == "draining"
    time.sleep(0.5)
    assert daemon.process.poll() is None
    daemon.behave()
    assert daemon.end() == 0


def test_a_stage_that_is_killed_during_the_drain_comes_back(run):
    daemon = run().ready()
    daemon.behave("gateway busy")
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: daemon.status()["state"] == "draining", "draining")
    os.kill(daemon.stage("post")["pid"], signal.SIGKILL)
    until(lambda: daemon.stage("post")["restarts"] == 1, "a restart")
    os.kill(daemon.stage("gateway")["pid"], signal.SIGKILL)
    until(lambda: daemon.stage("gateway")["restarts"] == 1, "a restart")
    daemon.behave()
    assert daemon.end() == 0


def test_a_drain_that_takes_too_long_says_what_was_lost(run):
    daemon = run(sets=["supervisor.drain_timeout_ms=300"]).ready()
    daemon.behave("gateway busy", "gateway in_flight 3")
    until(lambda: daemon.status()["requests"]["in_flight"] == 3, "the counters")
    assert daemon.drain() == 1
    assert "ev=lost requests=3" in daemon.log()
    assert not daemon.objects()


def test_a_second_signal_ends_it_at_once(run):
    daemon = run().ready()
    gateway = daemon.pids()["gateway"]
    daemon.behave("gateway busy", "rag stubborn")
    daemon.process.send_signal(signal.SIGINT)
    until(lambda: daemon.was_told(gateway, DRAIN), "DRAIN")
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.end() in (0, 1)
    assert daemon.was_told(gateway, CUT)
    assert not daemon.objects()


def test_ctrl_c_reaches_the_group_and_hurts_nobody(run):
    daemon = run(start_new_session=True).ready()
    os.killpg(daemon.process.pid, signal.SIGHUP)
    os.killpg(daemon.process.pid, signal.SIGINT)
    assert daemon.end() == 0
    assert "ev=death" not in daemon.log()


def test_drain_over_the_control_socket_answers_at_the_end(run):
    daemon = run().ready()
    assert daemon.control().ask(op="drain") == {"ok": True, "op": "drain", "lost": 0}
    assert daemon.end() == 0


def test_drain_with_a_timeout_of_its_own(run):
    daemon = run().ready()
    daemon.behave("gateway busy", "gateway in_flight 2")
    until(lambda: daemon.status()["requests"]["in_flight"] == 2, "the counters")
    answer = daemon.control().ask(op="drain", timeout_ms=200)
    assert answer["ok"] is False and answer["lost"] == 2
    assert daemon.end() == 1


# ---- control --------------------------------------------------------------------------------------------------


def test_requests_that_cannot_be_are_refused_and_harm_nobody(run):
    daemon = run().ready()
    control = daemon.control()
    for request, word in [
        ({"op": "frobnicate"}, "op"),
        ({}, "op"),
        ({"op": 5}, "op"),
        ({"op": "restart"}, "stage"),
        ({"op": "restart", "stage": "supervisor"}, "stage"),
        ({"op": "restart", "stage": ["rag"]}, "stage"),
        ({"op": "restart", "stage": "rag", "lane": 7}, "lane"),
        ({"op": "restart", "stage": "rag", "lane": -1}, "lane"),
        ({"op": "restart", "stage": "gateway", "lane": 0}, "lane"),
        ({"op": "drain", "timeout_ms": "x"}, "timeout_ms"),
    ]:
        answer = control.ask(**request)
        assert answer["ok"] is False and answer["code"] == "invalid_request", request
        assert word in answer["message"], answer
    assert control.ask(op="ping")["ok"]
    for garbage in [b"\xc1", msgpack.packb([1]), b"\x01", b"\x91" * 20, b"\xdf\xff\xff\xff\xff",
                    msgpack.packb({"op": "x" * 70000}), b"GET / HTTP/1.1\r\n\r\n"]:
        control = daemon.control()
        control.socket.sendall(garbage)
        answer = control.answer()
        assert answer["ok"] is False, garbage
        assert control.answer() is None
    assert daemon.stage("rag")["restarts"] == 0
    assert daemon.drain() == 0


def test_pong_says_who_it_is(run):
    daemon = run().ready()
    pong = daemon.control().ask(op="ping", unknown={"key": [1]})
    assert pong["pid"] == daemon.process.pid and pong["instance"] == daemon.instance
    assert pong["socket"] == str(daemon.path) and pong["state"] == "running"
    assert daemon.drain() == 0


def test_a_client_that_does_not_read_holds_up_nobody(run):
    daemon = run(sets=["lanes=2"]).ready()
    deaf = daemon.control()
    deaf.socket.setblocking(False)
    request = msgpack.packb({"op": "status"})
    try:
        while True:
            deaf.socket.send(request * 100)
    except BlockingIOError:
        pass
    for _ in range(20):
        assert daemon.status()["state"] == "running"
    assert daemon.drain() == 0


def test_clients_beyond_the_limit_are_turned_away_and_places_come_back(run):
    daemon = run().ready()
    crowd = [daemon.control() for _ in range(32)]
    for control in crowd:
        assert control.ask(op="ping")["ok"]
    assert daemon.control().answer() is None
    crowd.pop().socket.close()
    until(lambda: Control(f"{daemon.path}.ctl").ask(op="ping") or 1, "a place")
    for control in crowd:
        control.socket.close()
    until(lambda: daemon.status()["state"] == "running", "places")
    assert daemon.drain() == 0


def test_requests_in_pieces_and_in_one_piece_are_answered_in_order(run):
    daemon = run().ready()
    control = daemon.control()
    for byte in msgpack.packb({"op": "ping"}):
        control.socket.sendall(bytes([byte]))
        time.sleep(0.005)
    assert control.answer()["op"] == "ping"
    both = msgpack.packb({"op": "restart", "stage": "rag"}) + msgpack.packb({"op": "ping"})
    control.socket.sendall(both + msgpack.packb({"op": "status"}))
    control.socket.shutdown(socket.SHUT_WR)
    assert [control.answer()["op"] for _ in range(3)] == ["restart", "ping", "status"]
    assert control.answer() is None
    assert daemon.drain() == 0


def test_a_thousand_requests_at_once_do_not_pile_up(run):
    small = lambda: resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))
    daemon = run(preexec_fn=small).ready()
    control = daemon.control()
    control.socket.sendall(msgpack.packb({"op": "reload"}) * 1400)
    for _ in range(1400):
        assert control.answer()["ok"]
    assert daemon.drain() == 0


def test_status_has_the_promised_shape(run):
    daemon = run(sets=["lanes=2"]).ready()
    status = daemon.status()
    assert set(status) == {"version", "instance", "pid", "uptime_s", "state", "socket", "http",
                           "gateways", "lanes", "telemetry", "requests"}
    assert status["http"] == [] and status["state"] == "running"
    assert {"index", "pid", "state", "core", "restarts", "last_exit",
            "connections"} <= set(status["gateways"][0])
    assert [s["stage"] for s in status["lanes"][1]["stages"]] == ROLES[:5]
    for lane in status["lanes"]:
        assert set(lane) == {"lane", "state", "resets", "core", "in_flight", "stages"}
        assert lane["state"] == "running" and lane["resets"] == 0
        for stage in lane["stages"]:
            assert {"stage", "pid", "state", "restarts", "last_exit", "rss_bytes", "records_in",
                    "records_out", "ring"} <= set(stage)
            assert set(stage["ring"]) == {"depth", "capacity", "high_water", "bytes"}
            assert stage["state"] == "ready" and stage["rss_bytes"] > 0
            assert stage["last_exit"] is None
    capacity = {s["stage"]: s["ring"]["capacity"] for s in status["lanes"][0]["stages"]}
    assert capacity == {"rag": 512, "assemble": 512, "inference": 1024, "post": 512, "stream": 256}
    requests = status["requests"]
    assert requests["admitted"] == sum(
        requests[k] for k in ("completed", "failed", "cancelled", "in_flight"))
    assert daemon.drain() == 0


# ---- restart and reload -----------------------------------------------------------------------------------


def test_restart_replaces_one_stage_of_one_lane(run):
    daemon = run(sets=["lanes=2"]).ready()
    before = daemon.pids()
    assert daemon.control().ask(op="restart", stage="inference", lane=1)["restarted"] == 1
    after = daemon.pids()
    assert {r for r in before if before[r] != after[r]} == {"inference.1"}
    told = daemon.seen(before["inference.1"])
    assert told.index(f"message {DRAIN}\n") < told.index(f"message {LEAVE}\n")
    stage = daemon.stage("inference", 1)
    assert stage["last_exit"] == "exit 0" and stage["restarts"] == 1
    assert daemon.drain() == 0


def test_restart_all_replaces_one_after_the_other(run):
    daemon = run(sets=["lanes=2"]).ready()
    before = daemon.pids()
    answer = daemon.control().ask(op="restart", stage="all")
    assert answer["restarted"] == 12
    after = daemon.pids()
    assert all(before[r] != after[r] for r in before)
    log = daemon.log().split("ev=restart asked")[1]
    assert re.findall(r"ev=(exit|ready)", log)[:23] == ["exit", "ready"] * 11 + ["ready"]
    daemon.says("ev=spare")
    assert daemon.drain() == 0


def test_restarts_in_one_piece_are_each_answered_once(run):
    daemon = run().ready()
    control = daemon.control()
    control.socket.sendall(msgpack.packb({"op": "restart", "stage": "rag"}) * 3
                           + msgpack.packb({"op": "ping"}))
    assert [control.answer()["op"] for _ in range(4)] == ["restart"] * 3 + ["ping"]
    assert daemon.stage("rag")["restarts"] == 3
    assert daemon.drain() == 0


def test_inference_that_does_not_finish_is_killed_after_the_time(run):
    daemon = run(sets=["supervisor.drain_timeout_ms=300"]).ready()
    daemon.behave("inference busy")
    assert daemon.control().ask(op="restart", stage="inference")["ok"]
    assert daemon.stage("inference")["last_exit"] == "signal 9"
    daemon.behave()
    assert daemon.drain() == 0


def test_a_restart_whose_successor_fails_says_so(run):
    daemon = run().ready()
    daemon.behave("post exit 70")
    answer = daemon.control().ask(op="restart", stage="post")
    assert answer["ok"] is False and answer["code"] == "failed" and "post" in answer["message"]
    assert daemon.drain() == 0


def test_a_restart_that_the_drain_overtakes_is_answered(run):
    daemon = run().ready()
    daemon.behave("inference busy", "gateway busy")
    control = daemon.control()
    control.send(op="restart", stage="inference")
    until(lambda: daemon.stage("inference")["state"] == "draining", "draining")
    daemon.process.send_signal(signal.SIGTERM)
    answer = control.answer()
    assert answer["ok"] is False and answer["op"] == "restart"
    until(lambda: daemon.control().ask(op="reload")["code"] == "draining", "refusal")
    daemon.behave()
    assert daemon.end() == 0


def test_reload_replaces_those_that_read_what_changed(run, folder):
    config = folder / "c.yaml"
    config.write_text("rag: { top_k: 5 }\n")
    daemon = run(config=config, sets=["lanes=2"]).ready()
    before = daemon.pids()
    assert daemon.control().ask(op="reload") == {
        "ok": True, "op": "reload", "changed": [], "restarted": 0}
    config.write_text("rag: { top_k: 7 }\n")
    answer = daemon.control().ask(op="reload")
    assert answer == {"ok": True, "op": "reload", "changed": ["rag.top_k"], "restarted": 2}
    after = daemon.pids()
    assert {r for r in before if before[r] != after[r]} == {"rag.0", "rag.1"}
    config.write_text("rag: { top_k: 8 }\n")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.stage("rag", 1)["restarts"] == 2, "SIGHUP")
    assert daemon.drain() == 0


def test_reload_of_a_bad_file_keeps_the_old_configuration(run, folder):
    config = folder / "c.yaml"
    config.write_text("rag: { top_k: 5 }\n")
    daemon = run(config=config).ready()
    before = daemon.pids()
    config.write_text("\nrag: { top_k: many }\n")
    answer = daemon.control().ask(op="reload")
    assert answer["ok"] is False and answer["code"] == "invalid_configuration"
    assert f"{config}:2" in answer["message"] and "rag.top_k" in answer["message"]
    daemon.process.send_signal(signal.SIGHUP)
    daemon.says("ev=reload refused=1")
    until(lambda: daemon.log().count("refused=1") == 2, "SIGHUP's line")
    assert daemon.pids() == before
    assert daemon.drain() == 0


def test_reload_refuses_what_needs_a_new_run_as_a_whole(run, folder):
    config = folder / "c.yaml"
    config.write_text("rag: { top_k: 5 }\n")
    daemon = run(config=config).ready()
    before = daemon.pids()
    config.write_text("rag: { top_k: 6 }\nstream: { log_bytes: 2097152 }\nchannels: { rag: 9 }\n")
    answer = daemon.control().ask(op="reload")
    assert answer["ok"] is False and answer["code"] == "restart_required"
    assert sorted(answer["keys"]) == ["channels.rag", "stream.log_bytes"]
    assert daemon.pids() == before
    config.write_text("supervisor: { restart_burst: 9 }\n")
    assert daemon.control().ask(op="reload")["restarted"] == 0
    assert daemon.drain() == 0


# ---- gateways through the spare slot ----------------------------------------------------------------------


def arenas(daemon):
    return sorted(name.rsplit("arena.", 1)[1] for name in daemon.objects() if ".arena." in name)


def test_a_gateway_is_replaced_in_the_spare_slot_and_then_back(run):
    daemon = run().ready()
    before = daemon.pids()
    assert arenas(daemon) == ["0"]
    for n, slots in [(1, ("0", "1")), (2, ("1", "0"))]:
        old = daemon.pids()["gateway"]
        answer = daemon.control().ask(op="restart", stage="gateway")
        assert answer == {"ok": True, "op": "restart", "restarted": 1}
        gateway = daemon.stage("gateway")
        assert gateway["pid"] != old and gateway["index"] == 0 and gateway["restarts"] == n
        until(lambda: arenas(daemon) == [slots[1]], "the old slot to be the spare")
        assert daemon.stage("gateway")["last_exit"] == "exit 0"
        told = daemon.seen(old)
        assert told.index(f"message {CLOSE}\n") < told.index(f"message {LEAVE}\n")
        for stage in ("assemble.0", "inference.0"):
            told = daemon.seen(before[stage])
            assert f"object {ARENA} {slots[1]} " in told
            until(lambda: re.search(rf"object {ARENA} {slots[0]} \d+ 0 0\n", daemon.seen(before[stage])), "unmap")
        assert f"object {ARENA}" not in daemon.seen(before["post.0"])
    assert {r for r in before if before[r] != daemon.pids()[r]} == {"gateway"}
    assert daemon.drain() == 0


def test_each_of_two_gateways_has_its_turn(run):
    daemon = run(sets=["gateways=2"]).ready()
    before = [g["pid"] for g in daemon.status()["gateways"]]
    assert daemon.control().ask(op="restart", stage="gateway")["restarted"] == 2
    after = daemon.status()["gateways"]
    assert [g["index"] for g in after] == [0, 1] and [g["restarts"] for g in after] == [1, 1]
    assert not set(before) & {g["pid"] for g in after}
    until(lambda: len(arenas(daemon)) == 2, "the second old one to leave")
    assert daemon.drain() == 0


def test_a_restart_waits_for_the_gateway_that_still_closes(run):
    daemon = run().ready()
    first = daemon.pids()["gateway"]
    daemon.behave("gateway busy")
    assert daemon.control().ask(op="restart", stage="gateway")["ok"]
    second = daemon.pids()["gateway"]
    control = daemon.control()
    control.send(op="restart", stage="gateway")
    until(lambda: daemon.was_told(first, CLOSE), "CLOSE")
    time.sleep(0.3)
    assert daemon.pids()["gateway"] == second and daemon.stage("gateway")["state"] == "ready"
    daemon.behave()
    assert control.answer()["ok"] and daemon.pids()["gateway"] not in (first, second)
    assert daemon.drain() == 0


def test_a_gateway_that_does_not_close_is_killed_for_the_next_one(run):
    daemon = run(sets=["supervisor.drain_timeout_ms=300"]).ready()
    daemon.behave("gateway busy")
    assert daemon.control().ask(op="restart", stage="gateway")["ok"]
    control = daemon.control()
    control.send(op="restart", stage="gateway")
    daemon.says("ev=overrun stage=gateway slot=0")
    daemon.behave()
    assert control.answer()["ok"]
    assert daemon.stage("gateway")["restarts"] == 2
    assert daemon.drain() == 0


def test_a_closing_gateway_that_dies_closes_on_without_a_listener(run):
    daemon = run().ready()
    old = daemon.pids()["gateway"]
    daemon.behave("gateway busy")
    assert daemon.control().ask(op="restart", stage="gateway")["ok"]
    new = daemon.pids()["gateway"]
    os.kill(old, signal.SIGKILL)
    daemon.says("ev=ready stage=gateway slot=0")
    pid = int(re.search(r"ev=ready stage=gateway slot=0 pid=(\d+)", daemon.log()).group(1))
    until(lambda: daemon.was_told(pid, CLOSE), "CLOSE")
    assert not daemon.was_told(pid, LISTENER) and daemon.was_told(new, LISTENER)
    assert daemon.pids()["gateway"] == new and daemon.stage("gateway")["restarts"] == 1
    daemon.behave()
    daemon.says("ev=spare slot=0")
    assert daemon.drain() == 0


def test_a_successor_that_does_not_start_leaves_the_old_gateway_in_its_place(run):
    daemon = run().ready()
    old = daemon.pids()["gateway"]
    daemon.behave("gateway exit 70")
    answer = daemon.control().ask(op="restart", stage="gateway")
    assert answer["ok"] is False and answer["code"] == "failed" and "gateway" in answer["message"]
    assert daemon.pids()["gateway"] == old and daemon.stage("gateway")["restarts"] == 0
    assert arenas(daemon) == ["0"] and daemon.status()["state"] == "running"
    daemon.behave()
    assert daemon.control().ask(op="restart", stage="gateway")["ok"]
    assert daemon.pids()["gateway"] != old
    assert daemon.drain() == 0


def test_no_gateway_starts_before_every_stage_has_its_arena(run):
    daemon = run().ready()
    before = daemon.pids()
    daemon.behave("assemble deaf")
    control = daemon.control()
    control.send(op="restart", stage="gateway")
    until(lambda: f"object {ARENA} 1 " in daemon.seen(before["assemble.0"]), "the arena")
    time.sleep(0.3)
    assert daemon.pids()["gateway"] == before["gateway"]
    os.kill(before["assemble.0"], signal.SIGKILL)  # its successor gets it at its start
    assert control.answer()["ok"]
    assert daemon.drain() == 0


def test_a_drain_waits_for_a_closing_gateway_too(run):
    daemon = run().ready()
    daemon.behave("gateway busy")
    assert daemon.control().ask(op="restart", stage="gateway")["ok"]
    daemon.process.send_signal(signal.SIGTERM)
    until(lambda: daemon.status()["state"] == "draining", "draining")
    time.sleep(0.3)
    assert daemon.process.poll() is None
    daemon.behave()
    assert daemon.end() == 0
    assert not daemon.objects()


def test_the_next_run_closes_what_a_restart_had_begun(run):
    first = run().ready()
    first.behave("gateway busy")
    assert first.control().ask(op="restart", stage="gateway")["ok"]
    pids = first.pids()
    first.process.kill()
    first.process.wait()
    for pid in pids.values():
        until(lambda: not pathlib.Path(f"/proc/{pid}").exists(), "its workers' end")
    assert arenas(first) == ["0", "1"]
    second = run(instance=first.instance).ready()
    assert "ev=ready stage=gateway place=0" in second.log()
    second.says("ev=ready stage=gateway slot=1")
    assert len(second.status()["gateways"]) == 1
    second.behave()
    second.says("ev=spare slot=1")
    assert arenas(second) == ["0"]
    assert second.control().ask(op="restart", stage="gateway")["ok"]
    assert second.drain() == 0


def test_the_next_run_finds_the_spare_where_it_was(run):
    first = run().ready()
    assert first.control().ask(op="restart", stage="gateway")["ok"]
    first.says("ev=spare slot=0")
    first.process.kill()
    first.process.wait()
    second = run(instance=first.instance).ready()
    assert arenas(second) == ["1"] and "slot=" not in second.log()
    half = pathlib.Path("/dev/shm", next(n for n in second.objects() if ".arena." in n).replace("arena.1", "arena.0"))
    second.process.kill()
    second.process.wait()
    half.write_bytes(b"")  # killed while it was being made
    half.chmod(0o600)
    third = run(instance=first.instance).ready()
    assert arenas(third) == ["1"]
    assert third.drain() == 0
    assert not third.objects()
