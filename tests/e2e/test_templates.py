"""Templates in the running daemon: chosen by request, header, model and default; checked before, reloaded without loss."""

import json
import signal
import subprocess
import threading
import uuid

import pytest

from backend import Backend
from conftest import DEADLINE, MILLRACE, wait_for
from test_backend import PATIENT
from test_http import ask as ask_http


@pytest.fixture(scope="module")
def backend():
    with Backend() as b:
        yield b


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "templates"
    path.mkdir()
    (path / "letter.mustache").write_text("---\nparams: {temperature: 0.25}\n---\nDear {{vars.who}}: {{prompt}}\n")
    (path / "small.mustache").write_text("---\nmodels: [tiny]\nmodel: normal\n---\n{{>head}}{{prompt}}")
    (path / "head.mustache").write_text("Shortly, ")
    (path / "strict.mustache").write_text("---\nmissing: error\n---\n{{prompt}}\n {{vars.who}}")
    (path / "notes.txt").write_text("{{#not a template")
    return path


def with_templates(daemon, backend, folder, **more):
    worker = {"name": "gpu", "kind": "openai", "base_url": backend.url, "timeouts": PATIENT}
    return daemon({"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, "lanes": 1,
                   "assemble.templates": str(folder), **more})


def sent(backend):
    return json.loads(backend.log()[-1]["body"])


def ask(d, **frame):
    events = d.client().submit(str(uuid.uuid4()), rag=False, **frame)
    assert events[-1]["ev"] == "done", events[-1]


def test_a_template_is_chosen_by_request_model_or_default(daemon, backend, folder):
    d = with_templates(daemon, backend, folder)
    ask(d, prompt='why "x"?', template="letter", vars={"who": "Ann"})
    assert sent(backend)["messages"][-1]["content"] == 'Dear Ann: why "x"?\n'
    assert sent(backend)["temperature"] == 0.25
    ask(d, prompt="q", template="letter", vars={"who": "Ann"}, params={"temperature": 1})
    assert sent(backend)["temperature"] == 1
    ask(d, prompt="q", model="tiny")
    assert sent(backend)["messages"][-1]["content"] == "Shortly, q" and sent(backend)["model"] == "normal"
    ask(d, prompt="q", model="tiny", template="builtin")
    assert sent(backend)["messages"][-1]["content"] == "q"
    ask(d, prompt="q")
    assert sent(backend)["messages"][-1]["content"] == "q"
    result = d.cli("submit", "--template", "letter", "--var", "who=Bob", "--rag", "off", "hi")
    assert result.returncode == 0 and sent(backend)["messages"][-1]["content"] == "Dear Bob: hi\n", result.stderr


def test_the_default_template_and_the_header(daemon, backend, folder):
    d = with_templates(daemon, backend, folder, **{"assemble.default": "head"})
    ask(d, prompt="q")
    assert sent(backend)["messages"][-1]["content"] == "Shortly, "
    body = {"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "café ☕"}]}]}
    assert ask_http(d, json.dumps(body).encode(), **{"x-millrace-template": "letter"})[0] == 200
    assert sent(backend)["messages"][0]["content"] == [body["messages"][0]["content"][0],
                                                       {"type": "text", "text": "Dear : café ☕\n"}]


def test_a_template_that_cannot_be_rendered_is_the_requests_error(daemon, backend, folder):
    d = with_templates(daemon, backend, folder)
    error = d.client().submit("e", prompt="x", template="strict", rag=False)[-1]
    assert (error["ev"], error["code"], error["status"]) == ("error", "invalid_request", 400)
    assert "strict.mustache:5:2: 'vars.who' is missing" in error["message"]
    error = d.client().submit("f", prompt="x", template="nobody", rag=False)[-1]
    assert error["code"] == "invalid_request" and "nobody" in error["message"]
    ask(d, prompt="x", template="strict", vars={"who": "me"})


def test_a_body_of_megabytes_is_rendered_without_being_rewritten(daemon, backend, folder):
    d = with_templates(daemon, backend, folder)
    text = "é\\n\\u00e9 " * 200000
    ask(d, body=('{"messages":[{"role":"user","content":"' + text + '"}]}').encode(), template="letter", vars={"who": "A"},
        model="tools")
    assert ('"content":"Dear A: ' + text + '\\n"').encode() in backend.log()[-1]["body"]


def test_documents_reach_the_template(daemon, backend, folder, tmp_path):
    (folder / "cite.mustache").write_text("{{#documents}}<{{n}}|{{title}}|{{text}}>{{/documents}}{{prompt}}")
    (tmp_path / "mill.md").write_text("# Mill\n\nThe sluice gate is made of oak.\n")
    d = with_templates(daemon, backend, folder)
    assert d.cli("index", "add", "--index", d.index, str(tmp_path / "mill.md")).returncode == 0

    def found():
        events = d.client().submit(str(uuid.uuid4()), prompt="What is the sluice gate made of?", template="cite")
        assert events[-1]["ev"] == "done", events[-1]
        return events[-1]["sources"] and events[-1]
    done = wait_for("the document", found)
    assert [s["n"] for s in done["sources"]] == [1]
    content = sent(backend)["messages"][-1]["content"]
    assert content.startswith("<1|") and "made of oak" in content and content.endswith("made of?")


# ---- check and reload ----------------------------------------------------------------------------

@pytest.mark.parametrize("name, text, words", [
    ("bad", "a\n {{#b}}", ["bad.mustache:2:2:", "'b' is not closed"]),
    ("bad", "---\nescape: xml\n---\n", ["bad.mustache:2:9:", "none or html"]),
    ("bad", "---\nparams: {messages: []}\n---\n", ["bad.mustache:2:10:", "params"]),
    ("bad", "---\nmodels: [tiny]\n---\n", ["models: tiny", "bad"]),
    ("bad", "---\nmodel: other\n---\n", ["model: other", "inference.models"]),
    ("builtin", "x", ["builtin.mustache:1:1:"]),
])
def test_check_refuses_a_template_with_its_place(folder, tmp_path, name, text, words):
    (folder / f"{name}.mustache").write_text(text)
    config = tmp_path / "c.yaml"
    config.write_text(f"assemble: {{templates: {folder}}}\ninference: {{models: {{normal: [local]}}}}\n")
    result = subprocess.run([MILLRACE, "check", config], capture_output=True, text=True, timeout=DEADLINE)
    assert result.returncode == 2 and result.stdout == ""
    for word in [f"{config}:1: assemble.templates: ", *words]:
        assert word in result.stderr, result.stderr


def test_changed_templates_are_reloaded_without_loss_and_broken_ones_refused(daemon, backend, folder):
    d = with_templates(daemon, backend, folder)
    before = d.pid("assemble")
    assert d.cli("reload").stdout == "restarted 0 processes\n"
    (folder / "letter.mustache").write_text("{{#never")
    refused = d.cli("reload")
    assert refused.returncode == 2 and "letter.mustache:1:1:" in refused.stderr
    assert d.pid("assemble") == before
    ask(d, prompt="q", template="letter", vars={"who": "Ann"})
    assert sent(backend)["messages"][-1]["content"] == "Dear Ann: q\n"
    stop, answers = threading.Event(), []

    def load():
        client = d.client()
        while not stop.is_set():
            answers.append(client.submit(str(uuid.uuid4()), prompt="q", template="letter", rag=False)[-1])
    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(3):
        (folder / "letter.mustache").write_text(f"{n}: {{{{prompt}}}}")
        assert d.cli("reload").stdout == "restarted 1 process\n"
    stop.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers and all(a["ev"] == "done" for a in answers)
    ask(d, prompt="q", template="letter")
    assert sent(backend)["messages"][-1]["content"] == "2: q"


def test_a_template_that_broke_meanwhile_takes_nothing_but_its_own_requests_along(daemon, backend, folder):
    d = with_templates(daemon, backend, folder)
    (folder / "letter.mustache").write_text("{{#never")
    d.wait_ready("assemble", 0, d.kill("assemble", sig=signal.SIGKILL))
    error = d.client().submit("e", prompt="x", template="letter", rag=False)[-1]
    assert error["code"] == "invalid_request" and "letter.mustache:1:1:" in error["message"]
    ask(d, prompt="x")
