"""rag.watch: what stands in a folder is what answers cite, whatever happens to the files and to who watches them."""

import json
import os
import shutil
import signal

import pytest

from conftest import Daemon, wait_for
from services import service


class Place:
    """A daemon that watches folders, and a way to ask it."""

    def __init__(self, path):
        self.path = path
        self.docs = path / "docs"
        self.docs.mkdir()
        (self.docs / "first.md").write_text("# First\n\nThe first aqueduct was built by Appius.\n")
        self.numbers = iter(range(10**6))

    def start(self, **rag):
        settings = {"lanes": 1, "rag.index": str(self.path / "w.index"), "rag.timeout_ms": 20000,
                    "rag": {"watch": [str(self.docs)], **rag}}
        config = json.dumps({"rag": settings.pop("rag")})
        self.daemon = Daemon(settings, config=config)
        self.daemon.start()
        self.client = self.daemon.client()
        return self

    def configure(self, **rag):
        with open(os.path.join(self.daemon.directory, "millrace.yaml"), "w") as f:
            json.dump({"rag": rag}, f)
        result = self.daemon.cli("reload")
        assert result.returncode == 0, result.stderr

    def cites(self, question):
        """The names of the files that the answer is made from."""
        done = self.client.submit(f"q{next(self.numbers)}", prompt=question)[-1]
        assert done["ev"] == "done", done
        return {os.path.basename(source["id"]) for source in done["sources"] if source["cited"]}

    def until_cites(self, question, names):
        wait_for(f"{question!r} to cite {names}", lambda: self.cites(question) == set(names), pause=0.1)

    def watch(self):
        return self.daemon.status().get("watch")

    def wait_watch(self, not_pid):
        def ready():
            watch = self.watch()
            return watch and watch["state"] == "ready" and watch["pid"] != not_pid and watch
        return wait_for("the watcher to be ready", ready)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("watch")).start()
    yield place
    place.daemon.finish()


def test_a_watcher_without_an_index_or_folders_is_refused(daemon, tmp_path):
    for settings, said in (({"rag.watch": [str(tmp_path)], "rag.index": "none"}, "rag.index is none"),
                           ({"rag.watch": [str(tmp_path / "no")]}, "readable folder"),
                           ({"rag.watch": ["."]}, "by its name"),
                           ({"rag.watch": [str(tmp_path), str(tmp_path)]}, "twice")):
        d = daemon(settings, ready=False)
        assert d.process.wait(60) == 2
        assert "rag.watch" in d.log() and said in d.log(), d.log()


def test_what_is_there_at_the_start_is_found(place):
    place.until_cites("who built the first aqueduct", {"first.md"})
    watch = place.watch()
    assert watch["state"] == "ready" and watch["added"] >= 1 and watch["scans"] >= 1


def test_files_that_come_change_and_go_are_what_answers_cite(place):
    (place.docs / "new.txt").write_text("The second aqueduct was built by Marcius the praetor.\n")
    place.until_cites("which praetor built the second aqueduct", {"new.txt"})
    (place.docs / "new.txt").write_text("A recipe: lentils, leeks and vinegar, boiled slowly.\n")
    place.until_cites("what is the recipe with lentils and leeks", {"new.txt"})
    (place.docs / "deep" / "er").mkdir(parents=True)
    (place.docs / "deep" / "er" / "third.html").write_text("<title>Third</title><p>Claudius finished the third channel.</p>")
    place.until_cites("who finished the third channel", {"third.html"})
    os.unlink(place.docs / "new.txt")
    place.until_cites("what is the recipe with lentils and leeks", set())
    shutil.rmtree(place.docs / "deep")
    place.until_cites("who finished the third channel", set())


def test_what_cannot_go_in_is_a_line_of_the_log(place):
    (place.docs / "broken.md").write_bytes(b"\xff\x00 not text")
    wait_for("the line", lambda: "broken.md" in place.daemon.log())
    assert "ev=skipped" in place.daemon.log() and place.watch()["refused"] >= 1
    place.until_cites("who built the first aqueduct", {"first.md"})


def test_after_a_kill_what_was_missed_is_found(place):
    pid = place.watch()["pid"]
    os.kill(pid, signal.SIGSTOP)
    (place.docs / "missed.md").write_text("# Missed\n\nThe granary of Ostia held wheat from Egypt.\n")
    os.unlink(place.docs / "first.md")
    os.kill(pid, signal.SIGKILL)
    place.until_cites("where did the granary of Ostia have its wheat from", {"missed.md"})
    place.until_cites("who built the first aqueduct", set())
    watch = place.wait_watch(pid)
    assert watch["restarts"] >= 1 and watch["last_exit"] == "signal 9"


def test_a_command_that_adds_and_the_watcher_wait_for_each_other(place):
    (place.path / "more.jsonl").write_text("".join(
        json.dumps({"id": f"m{i}", "text": f"Amphora number {i} held garum."}) + "\n" for i in range(300)))
    for i in range(20):
        (place.docs / f"n{i}.md").write_text(f"Tile number {i} covers the bath of Stabiae.\n")
    result = place.daemon.cli("index", "--index", str(place.path / "w.index"), "add", "--json", str(place.path / "more.jsonl"))
    assert result.returncode == 0 and json.loads(result.stdout)["added"] == 300, result.stderr
    wait_for("the tiles", lambda: len([line for line in place.daemon.cli(
        "index", "--index", str(place.path / "w.index"), "list").stdout.splitlines() if "/docs/n" in line]) == 20)
    assert "watch_failed" not in place.daemon.log()


def test_a_reload_takes_other_folders_and_none(place):
    other = place.path / "other"
    other.mkdir()
    (other / "sewer.md").write_text("# Sewer\n\nThe great sewer was begun by Tarquin.\n")
    pid = place.watch()["pid"]
    place.configure(watch=[str(other)])
    assert place.watch()["pid"] != pid
    place.until_cites("who began the great sewer", {"sewer.md"})
    place.configure()
    assert place.watch() is None
    os.unlink(other / "sewer.md")
    result = place.daemon.cli("restart", "watch")
    assert result.returncode == 1 and "nobody to restart" in result.stderr
    place.configure(watch=[str(other), str(place.docs)])
    place.until_cites("who began the great sewer", set())


def test_requests_go_on_while_the_watcher_is_down(place):
    pid = place.watch()["pid"]
    os.kill(pid, signal.SIGSTOP)
    place.until_cites("where did the granary of Ostia have its wheat from", {"missed.md"})
    os.kill(pid, signal.SIGCONT)


def test_vectors_follow_the_folder(tmp_path):
    with service() as remote:
        place = Place(tmp_path)
        (place.docs / "drive.md").write_text("He polished the motorcar every morning.\n")
        place.start(embeddings={"url": remote.url, "model": "notions", "timeout_ms": 2000})
        try:
            def first(question):
                done = place.client.submit(f"q{next(place.numbers)}", prompt=question)[-1]
                return done["sources"] and os.path.basename(done["sources"][0]["id"])

            wait_for("a paraphrase to be found", lambda: first("automobile") == "drive.md", pause=0.1)
            (place.docs / "sail.md").write_text("The vessel left the harbour at noon.\n")
            wait_for("another", lambda: first("ship") == "sail.md", pause=0.1)
            assert "watch_failed" not in place.daemon.log()
        finally:
            place.daemon.finish()
