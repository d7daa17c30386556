"""Retrieval with a real embedding model, pinned, behind the server of examples/."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "e2e"))

from conftest import BUILD, DEADLINE, MILLRACE, daemon  # noqa: E402, F401

TEXTS = {
    "garage": "She changes the oil of her car twice a year and rotates the tyres herself.",
    "kitchen": "Knead the dough, let it rise for an hour, then put the loaf into a hot oven.",
    "doctor": "The physician told him to rest in bed until the fever was gone.",
    "court": "The judge sent the thief to prison for eighteen months.",
    "garden": "Roses want to be pruned late in winter, before the first buds open.",
    "sea": "The captain turned the vessel into the wind and dropped the anchor.",
}
# No word of a question stands in the text that answers it.
QUESTIONS = {
    "vehicle maintenance": "garage",
    "how to bake bread": "kitchen",
    "medical advice for an ill patient": "doctor",
    "punishment of a criminal": "court",
    "when should flowers be cut back": "garden",
    "sailing a ship": "sea",
}
SLOW = {"timeout_ms": 60000}
ENV = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "examples")}


@pytest.fixture(scope="module")
def python():
    folder = BUILD / "clients"
    done = subprocess.run([HERE / "install_model", folder], capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip("the model cannot be installed here: " + done.stderr.strip()[-300:])
    return folder / "model" / "bin" / "python3"


@pytest.fixture(scope="module")
def place(python, tmp_path_factory):
    """A configuration that names the server, and an index made with it."""
    path = tmp_path_factory.mktemp("model")
    server = subprocess.Popen([python, ROOT / "examples" / "embeddings_server.py", "0"], env=ENV, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True)
    try:
        url = server.stdout.readline().strip()
        (path / "c.yaml").write_text(json.dumps({"rag": {"index": str(path / "ix"), "timeout_ms": 60000, "embeddings": {
            "url": url, "model": "all-MiniLM-L6-v2", **SLOW}}}))
        (path / "rows.jsonl").write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in TEXTS.items()))
        told = json.loads(index(path, "-c", path / "c.yaml", "add", "--json", path / "rows.jsonl"))
        assert told["vectors"] == len(TEXTS)
        yield path
    finally:
        server.kill()
        server.wait()


def index(path, *arguments):
    done = subprocess.run([MILLRACE, "index", "--index", path / "ix", *arguments], capture_output=True, text=True,
                          timeout=DEADLINE * 4)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_model_gives_the_vectors_that_it_is_published_with(python):
    """The example of the model's page at huggingface.co: how like the first sentence the others are."""
    script = ('from minilm import Model\nv = Model().encode(["That is a happy person", "That is a happy dog", '
              '"That is a very happy person", "Today is a sunny day"])\nprint(*(v[1:] @ v[0]))')
    done = subprocess.run([python, "-c", script], env=ENV, capture_output=True, text=True, timeout=DEADLINE * 4)
    assert [float(word) for word in done.stdout.split()] == pytest.approx([0.694577, 0.942915, 0.256877], abs=1e-4), done


def test_a_paraphrase_is_found_by_meaning_where_words_find_nothing(place):
    for question, id in QUESTIONS.items():
        by_words = json.loads(index(place, "search", "--json", question))["hits"]
        assert id not in [hit["id"] for hit in by_words], question
        both = json.loads(index(place, "-c", place / "c.yaml", "search", "--json", question))["hits"]
        assert both[0]["id"] == id, (question, both)


def test_the_daemon_finds_the_paraphrase_too(place, daemon):  # noqa: F811
    d = daemon({"lanes": 1}, config=(place / "c.yaml").read_text())
    client = d.client()
    for question, id in QUESTIONS.items():
        done = client.submit(id, DEADLINE * 4, prompt=question)[-1]
        assert done["ev"] == "done" and done["sources"][0]["id"] == id, (question, done)
    assert "service_failed" not in d.log()
