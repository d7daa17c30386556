"""The process that waits for the next crash: who takes over from whom, and who must not."""

import os
import pathlib
import shutil
import signal

from conftest import BUILD, ECHO, text_of, title, wait_for

STAGES = ["rag", "assemble", "inference", "post", "stream", "gateway"]


def standby(d, role, but=None):
    return wait_for(f"a standby of {role}", lambda: (pid := d.standbys().get(role)) != but and pid)


def state(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def open_in(fds):
    try:
        return {os.readlink(fds / fd).split(":")[0] for fd in os.listdir(fds)}
    except FileNotFoundError:  # it is still on its way
        return None


def answers(d, id):
    client = d.client()
    events = client.submit(id, prompt="hello")
    client.close()
    assert events[-1]["ev"] == "done" and text_of(events) == "hello", events


def dies(d, role):
    """Kills it; the pid of its successor."""
    return d.wait_ready(role, 0, d.kill(role))["pid"]


def test_it_becomes_what_died_and_another_one_waits(daemon):
    d = daemon(ECHO)
    for role in STAGES:
        waits = standby(d, role)
        assert dies(d, role) == waits
        assert title(waits).startswith(f"millrace-{role}: {d.instance}")
        assert standby(d, role, but=waits)
    answers(d, "after")
    assert all(s["restarts"] == 1 for s in d.status()["lanes"][0]["stages"])


def test_it_holds_nothing_but_its_channel_and_its_loop(daemon):
    d = daemon(ECHO)
    for role in STAGES:
        fds = pathlib.Path(f"/proc/{standby(d, role)}/fd")
        wait_for("it to wait with these alone", lambda: open_in(fds) == {"/dev/null", d.log_path, "socket", "anon_inode"})
        maps = (fds.parent / "maps").read_text()
        assert "/dev/shm/" not in maps


def test_one_that_is_killed_comes_again_and_costs_nobody_anything(daemon):
    d = daemon(ECHO)
    waits = standby(d, "rag")
    os.kill(waits, signal.SIGKILL)
    again = standby(d, "rag", but=waits)
    assert dies(d, "rag") == again
    assert d.place("rag")["restarts"] == 1
    answers(d, "after")


def test_who_dies_when_its_standby_is_dead_too_or_stopped_starts_afresh(daemon):
    d = daemon(ECHO)
    for number, signo in enumerate((signal.SIGKILL, signal.SIGSTOP)):
        waits, pid, before = standby(d, "post"), d.pid("post"), d.place("post")["restarts"]
        os.kill(waits, signo)
        if signo == signal.SIGSTOP:
            wait_for("it to stop", lambda: state(waits) == "T")
        os.kill(pid, signal.SIGKILL)
        assert d.wait_ready("post", 0, pid)["pid"] != waits
        answers(d, f"after-{number}")
        # Whoever starts afresh ends those that are older.
        wait_for("the old one to go", lambda: not os.path.exists(f"/proc/{waits}"))
        # One that is killed at that moment may still have been chosen.
        assert d.place("post")["restarts"] - before in ((1, 2) if signo == signal.SIGKILL else (1,))


def test_another_program_on_disk_is_executed(daemon, tmp_path):
    for program in [p for p in BUILD.rglob("millrace-*") if p.is_file() and os.access(p, os.X_OK)]:
        shutil.copy2(program, tmp_path / program.name)
    d = daemon(ECHO, arguments=["--exe-dir", str(tmp_path)])
    waits = standby(d, "assemble")
    shutil.copy2(tmp_path / "millrace-assemble", tmp_path / "new")
    os.rename(tmp_path / "new", tmp_path / "millrace-assemble")
    assert dies(d, "assemble") != waits
    again = standby(d, "assemble", but=waits)
    assert dies(d, "assemble") == again


def test_a_planned_restart_executes_and_ends_who_waited(daemon):
    d = daemon(ECHO)
    waits, pid = standby(d, "post"), d.pid("post")
    assert d.cli("restart", "post").returncode == 0
    assert d.pid("post") not in (pid, waits)
    assert standby(d, "post", but=waits)
    wait_for("the old one to go", lambda: not os.path.exists(f"/proc/{waits}"))


def test_a_reload_that_names_another_key_leaves_nobody_with_the_old_one(daemon):
    def config(variable):
        return ("inference:\n  workers:\n    - {name: gpu, kind: openai, base_url: 'http://127.0.0.1:9/v1', "
                f"api_key_env: {variable}}}\n  models: {{'*': [gpu]}}\n")

    d = daemon(config=config("OLD_KEY"), env={"OLD_KEY": "secret-1", "NEW_KEY": "secret-2"})
    waits = standby(d, "inference")
    path = pathlib.Path(d.directory, "millrace.yaml")
    path.write_text(config("NEW_KEY"))
    assert d.cli("reload").returncode == 0
    again = standby(d, "inference", but=waits)
    environment = pathlib.Path(f"/proc/{again}/environ").read_bytes()
    assert b"NEW_KEY=secret-2" in environment and b"secret-1" not in environment
    assert dies(d, "inference") == again


def test_without_them_everybody_starts_afresh_and_a_reload_turns_them_on_and_off(daemon):
    config = "inference: {{workers: [{{name: local, kind: echo}}], models: {{'*': [local]}}}}\nsupervisor: {{standby: {}}}\n"
    d = daemon(config=config.format("false"))
    dies(d, "rag")
    assert not d.standbys()
    path = pathlib.Path(d.directory, "millrace.yaml")
    path.write_text(config.format("true"))
    assert d.cli("reload").returncode == 0
    for role in STAGES:
        standby(d, role)
    path.write_text(config.format("false"))
    assert d.cli("reload").returncode == 0
    wait_for("all of them to go", lambda: not d.standbys())


def test_neither_a_drain_nor_the_supervisors_death_leaves_one(daemon):
    d = daemon(ECHO)
    for end in (signal.SIGTERM, signal.SIGKILL):
        waiting = [standby(d, role) for role in STAGES]
        d.stop(end)
        wait_for("all of them to go", lambda: not any(title(pid) for pid in waiting))
        d.start()
