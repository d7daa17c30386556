"""Retrieval by words and by meaning: the command line, and the stage, with services that work, fail, hang and come back."""

import json
import os
import subprocess

import pytest

from conftest import DEADLINE, MILLRACE
from services import service

ROWS = [
    {"id": "drive", "title": "Driving", "text": "He polished the motorcar every morning."},
    {"id": "sail", "title": "Sailing", "text": "The vessel left the harbour at noon."},
    {"id": "bake", "title": "Baking", "text": "A loaf wants an hour in the oven."},
    {"id": "rule", "title": "Ruling", "text": "The monarch signed the law in the harbour."},
]


@pytest.fixture
def remote():
    with service() as one:
        yield one


@pytest.fixture
def place(tmp_path, remote):
    """A folder with rows, a configuration and a way to run `millrace index` there."""
    class Place:
        path = tmp_path
        index = tmp_path / "i.index"
        vectors = index / "millrace.vectors"

        def configure(self, model="notions", **rest):
            rag = {"embeddings": {"url": remote.url, "model": model, "timeout_ms": 2000}, "timeout_ms": 5000, **rest}
            (tmp_path / "c.yaml").write_text(json.dumps({"rag": rag}))

        def write(self, rows):
            (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

        def run(self, *arguments, config=True, code=0):
            more = ["-c", tmp_path / "c.yaml"] if config else []
            got = subprocess.run([MILLRACE, "index", "--index", self.index, *more, *arguments], text=True, capture_output=True,
                                 timeout=DEADLINE * 2, env={**os.environ, "SERVICE_KEY": "s3cret"})
            assert got.returncode == code, got
            return got

        def add(self, **options):
            return self.run("add", "--json", tmp_path / "rows.jsonl", **options)

        def ids(self, text, **options):
            got = self.run("search", "--json", text, **options)
            return [hit["id"] for hit in json.loads(got.stdout)["hits"]]

    one = Place()
    one.configure()
    one.write(ROWS)
    return one


def test_vectors_of_another_model_or_length_are_refused_with_the_remedy(place, remote):
    place.add()
    before = place.vectors.read_bytes()
    place.configure(model="other")
    said = place.add(code=1).stderr
    assert '"notions"' in said and '"other"' in said and "remove" in said and "millrace.vectors" in said
    got = place.run("search", "--json", "harbour")
    assert '"notions"' in got.stderr and json.loads(got.stdout)["hits"], "words alone still find"
    place.configure()
    remote.dimension = 9
    place.write(ROWS + [{"id": "new", "text": "A bun."}])
    said = place.add(code=1).stderr
    assert "9 numbers" in said and "have 8" in said and "remove" in said
    assert place.vectors.read_bytes() == before
    assert "9 numbers" in place.run("search", "automobile").stderr
    place.vectors.unlink()
    place.add()
    assert place.ids("automobile")[0] == "drive"


@pytest.mark.parametrize("damage", [b"", b"something else", None])
def test_a_damaged_file_of_vectors_is_refused_and_words_still_find(place, damage):
    place.add()
    good = place.vectors.read_bytes()
    place.vectors.write_bytes(good[:-9] + b"x" + good[-8:] if damage is None else damage)
    assert "remove" in place.add(code=1).stderr
    got = place.run("search", "--json", "harbour")
    assert "done without rag.embeddings" in got.stderr
    assert {h["id"] for h in json.loads(got.stdout)["hits"]} == {"sail", "rule"}


def test_meaning_finds_what_words_do_not(place, remote):
    assert json.loads(place.add().stdout)["vectors"] == 4
    assert place.ids("automobile", config=False) == []
    assert place.ids("automobile")[0] == "drive"
    assert place.ids("ship")[0] == "sail"
    assert place.ids("ship harbour")[0] == "sail"
    again = place.ids("harbour king")
    assert again[0] == "rule" and all(place.ids("harbour king") == again for _ in range(3))
    place.configure(fusion="rrf")
    assert place.ids("ship harbour")[0] == "sail"
    assert set(remote.calls) == {"/v1/embeddings"}


def test_vectors_follow_their_documents(place, remote):
    place.add()
    asked = remote.texts
    assert json.loads(place.add().stdout)["vectors"] == 4 and remote.texts == asked, "nothing is made twice"
    place.run("remove", "drive", config=False)
    assert "drive" not in place.ids("automobile")
    size = place.vectors.stat().st_size
    changed = [dict(r, text="The car has four wheels.") if r["id"] == "bake" else r for r in ROWS[1:]]
    place.write(changed)
    asked = remote.texts
    assert json.loads(place.add().stdout)["vectors"] == 3 and remote.texts == asked + 1
    assert place.vectors.stat().st_size == size
    assert place.ids("automobile")[0] == "bake"
    place.run("remove", "bake", "sail", "rule")
    assert not place.vectors.exists()


def test_what_a_failing_service_left_is_made_by_the_next_add(place, remote):
    rows = [{"id": f"n{i}", "text": f"Row {i} of the ship."} for i in range(80)]
    place.write(rows)
    remote.fail_after = 32
    said = place.add(code=1).stderr
    assert "overloaded" in said and "32 of 80" in said
    remote.fail_after = None
    asked = remote.texts
    assert json.loads(place.add().stdout)["vectors"] == 80
    assert remote.texts == asked + 48


@pytest.mark.parametrize("mode", ["error", "garbage", "hang"])
def test_without_its_service_a_search_goes_by_words(place, remote, mode):
    place.add()
    place.configure(embeddings={"url": remote.url, "model": "notions", "timeout_ms": 200})
    remote.mode = mode
    got = place.run("search", "--json", "harbour")
    assert got.stderr.count("done without rag.embeddings") == 1
    assert {h["id"] for h in json.loads(got.stdout)["hits"]} == {"sail", "rule"}


def test_filters_hold_for_what_meaning_finds(place):
    rows = [{"id": f"x{i}", "text": f"The ship number {i}.", "metadata": {"year": str(i % 50)}} for i in range(1500)]
    place.write(rows)
    place.add()
    assert len(place.ids("vessel")) == 10
    got = place.run("search", "--json", "-k", "100", "--filter", "year=7", "vessel")
    hits = {h["id"] for h in json.loads(got.stdout)["hits"]}
    assert hits == {f"x{i}" for i in range(7, 1500, 50)}
    place.write([{"id": "hers", "text": "King, king, king."}])
    place.run("add", "--tenant", "alice", place.path / "rows.jsonl")
    for tenant, finds in (("alice", True), ("bob", False)):
        got = place.run("search", "--json", "--tenant", tenant, "monarch")
        assert ("hers" in [h["id"] for h in json.loads(got.stdout)["hits"]]) == finds


def test_the_second_look_orders_what_was_found(place, remote):
    rows = [{"id": f"r{i}", "text": "oven " * (i + 1) + "word " * 40} for i in range(5)]
    place.write(rows)
    place.configure(rerank={"url": remote.url + "/rerank", "api_key_env": "SERVICE_KEY", "timeout_ms": 200})
    place.add()
    assert place.ids("oven") == ["r4", "r3", "r2", "r1", "r0"]
    assert remote.calls[-1] == "/v1/rerank" and "Bearer s3cret" in remote.keys
    remote.mode = "hang"
    got = place.run("search", "--json", "oven")
    assert "done without rag.rerank" in got.stderr and len(json.loads(got.stdout)["hits"]) == 5


# ---- the stage -----------------------------------------------------------------------------------

@pytest.fixture
def served(place, daemon, remote):
    """A daemon over the rows; ask(question) gives the documents it found, in their order."""
    place.add()

    def start(**rag):
        settings = {"rag": {"index": str(place.index), "timeout_ms": 20000,
                            "embeddings": {"url": remote.url, "model": "notions", "timeout_ms": 2000}, **rag}, "lanes": 1}
        d = daemon(settings)
        client = d.client()
        numbers = iter(range(1000))

        def ask(question):
            done = client.submit(f"q{next(numbers)}", prompt=question)[-1]
            assert done["ev"] == "done", done
            return [source["id"] for source in done["sources"]]

        d.ask = ask
        return d
    return start


def test_the_stage_finds_by_meaning_in_its_sandbox(served, remote):
    d = served()
    assert d.ask("automobile")[0] == "drive"
    assert d.ask("Who is the king?")[0] == "rule"
    assert "service_failed" not in d.log() and d.place("rag")["restarts"] == 0


@pytest.mark.parametrize("mode", ["error", "garbage", "hang"])
def test_the_stage_goes_by_words_without_its_service_and_leaves_it_alone(served, remote, mode):
    d = served(embeddings={"url": remote.url, "model": "notions", "timeout_ms": 200})
    remote.mode = mode
    for _ in range(8):
        assert "sail" in d.ask("harbour")
    assert len(remote.calls) == 1 + 5, "the breaker opens after five"
    lines = [line for line in d.log().splitlines() if "service_failed" in line]
    assert len(lines) == 1 and "service=embeddings" in lines[0]


def test_the_stage_says_that_its_vectors_are_of_another_model(served, remote):
    d = served(embeddings={"url": remote.url, "model": "other"})
    for _ in range(3):
        assert "sail" in d.ask("harbour")
    assert d.log().count("service_failed") == 1 and "remove millrace.vectors" in d.log()


def test_the_stage_lets_the_second_service_order(served, place, remote):
    place.write([{"id": f"r{i}", "text": "oven " * (i + 1) + "word " * 40} for i in range(5)])
    place.add()
    d = served(rerank={"url": remote.url})
    assert d.ask("oven")[0] == "r4" and remote.calls[-1] == "/v1/rerank"
