"""`millrace index add` killed before each of its calls that change a file, and interrupted: the index is the old or the
new one, and the same command goes on from there."""

import json
import os
import shutil
import signal
import subprocess

import pytest

from conftest import BUILD, DEADLINE, MILLRACE
from services import service

LIBRARY = BUILD / "tests/e2e/dies.so"
NAMES = [f"d{i}" for i in range(6)]
ALL = 1600  # bytes of an edition: the second one has twice as many
ENV = {**os.environ, "NO_COLOR": "1"}


def preloads():
    """Not where a sanitizer's own library must come first."""
    return subprocess.run([MILLRACE, "--version"], env={**os.environ, "LD_PRELOAD": str(LIBRARY)},
                          capture_output=True).returncode == 0


class Place:
    def __init__(self, path, url):
        self.path, self.docs, self.index = path, path / "docs", path / "ix"
        self.docs.mkdir()
        (path / "c.yaml").write_text(json.dumps({"rag": {"embeddings": {"url": url, "model": "notions", "timeout_ms": 5000}}}))

    def write(self, edition):
        for name in NAMES:
            (self.docs / f"{name}.md").write_text((f"# {name}\n\nMore about the king of the ship.\n".ljust(80, ".") * 20)[:ALL] * edition)

    def run(self, *arguments, dies=0, config=True):
        env = {**ENV, "LD_PRELOAD": str(LIBRARY), "MILLRACE_DIES": str(dies)} if dies else ENV
        more = ["-c", str(self.path / "c.yaml")] if config else []
        return subprocess.run([MILLRACE, "index", "--index", str(self.index), *more, *arguments], env=env, text=True,
                              capture_output=True, timeout=DEADLINE * 2)

    def add(self, **options):
        return self.run("add", "--json", str(self.docs), **options)

    def editions(self):
        """Which edition of each document is there, by its length."""
        result = self.run("list", "--json", config=False)
        if result.returncode == 1:
            assert "make one with" in result.stderr, result.stderr
            return []
        return [json.loads(line)["bytes"] // ALL for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def remote():
    with service() as one:
        yield one


@pytest.fixture
def place(tmp_path, remote):
    return Place(tmp_path, remote.url)


@pytest.mark.parametrize("edition", [1, 2])
def test_killed_anywhere_it_leaves_the_old_index_or_the_new_one(place, edition):
    """Into nothing (1), and over documents that are there with their vectors (2)."""
    if not preloads():
        pytest.skip("this build takes no preloaded library")
    place.write(1)
    before = []
    if edition == 2:
        assert place.add().returncode == 0
        shutil.copytree(place.index, place.path / "saved")
        before = place.editions()
        place.write(2)
    after = [edition] * len(NAMES)
    seen, n = [], 0
    while True:
        n += 1
        shutil.rmtree(place.index, ignore_errors=True)
        if before:
            shutil.copytree(place.path / "saved", place.index)
        result = place.add(dies=n)
        if result.returncode == 0:
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        there = place.editions()
        assert there in (before, after), there
        if there not in seen or n % 8 == 0:  # with its vectors: what is damaged would be refused
            again = place.add()
            assert again.returncode == 0, again.stderr
            told = json.loads(again.stdout)
            assert told["documents"] == len(NAMES) and told["vectors"] == told["chunks"]
        seen.append(there)
    assert before in seen and after in seen and n > 10, (n, seen)


def interrupted(place, arguments, ready, **options):
    process = subprocess.Popen([MILLRACE, "index", "--index", str(place.index), *arguments], env=ENV, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    ready(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 130 and "interrupted" in err and "goes on from there" in err, (process.returncode, err)
    return out, err


def test_interrupted_while_it_reads_it_keeps_what_it_has(place):
    def ready(process):
        rows = "".join(json.dumps({"id": f"r{i}", "text": f"row number {i}"}) + "\n" for i in range(100))
        process.stdin.write(rows)
        process.stdin.flush()
        while not (place.index / "flintlock").exists():  # it has taken a row
            assert process.poll() is None
    out, _ = interrupted(place, ["add", "--json", "-"], ready, stdin=subprocess.PIPE)
    n = json.loads(out)["added"]
    assert 0 < n <= 100 and json.loads(place.run("stats", "--json", config=False).stdout)["documents"] == n


def test_interrupted_while_it_asks_it_says_how_far_it_came(place, remote):
    place.write(1)
    remote.mode = "hang"
    before = len(remote.calls)

    def ready(process):
        while len(remote.calls) == before:
            assert process.poll() is None
    try:
        out, err = interrupted(place, ["-c", str(place.path / "c.yaml"), "add", "--json", str(place.docs)], ready)
    finally:
        remote.mode = "ok"
    assert json.loads(out)["added"] == len(NAMES) and "0 of " in err
    told = json.loads(place.add().stdout)
    assert told["unchanged"] == len(NAMES) and told["vectors"] == told["chunks"]
