"""Examples before the conversation: all, or those nearest to the question; checked, reloaded. And what is too long for a context."""

import json
import re
import subprocess

import pytest

from backend import Backend
from conftest import MILLRACE, Daemon
from test_http import ask as ask_http
from test_sessions import ask, name, said, sent, settings

YAML = """- user: How deep is the mill pond?
  assistant: Two metres.
- user: Who grinds the flour?
  assistant: The miller.
- user: When does the gate open?
  assistant: At dawn.
"""


@pytest.fixture(scope="module")
def backend():
    with Backend() as b:
        yield b


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    (folder / "few.yaml").write_text(YAML)
    (folder / "other.jsonl").write_text('{"user": "ping", "assistant": "pong"}\n')
    (folder / "own.mustache").write_text("---\nfew_shot: other.jsonl\n---\n{{prompt}}")
    (folder / "placed.mustache").write_text("{{#examples}}{{user}} -> {{assistant}}\n{{/examples}}{{prompt}}")
    return folder


@pytest.fixture(scope="module")
def shared(backend, files):
    d = Daemon(settings(backend, lanes=1, **{"assemble.few_shot": str(files / "few.yaml"), "assemble.few_shot_nearest": 2,
                                             "assemble.templates": str(files)})).start()
    yield d
    d.finish()


POND = [("user", "How deep is the mill pond?"), ("assistant", "Two metres.")]
FLOUR = [("user", "Who grinds the flour?"), ("assistant", "The miller.")]
GATE = [("user", "When does the gate open?"), ("assistant", "At dawn.")]


def test_the_nearest_examples_stand_before_history_and_question(shared, backend):
    ask(shared, prompt="Does the gate keep the pond full?")
    assert said(backend)[:-1] == POND + GATE  # in the order of the file
    ask(shared, prompt="zzz")
    assert said(backend) == [("user", "zzz")]
    ask(shared, "talk", prompt="zzz")
    ask(shared, "talk", messages=[{"role": "system", "content": "S"}, {"role": "user", "content": "flour"}])
    assert said(backend) == [("system", "S")] + FLOUR + [
        ("user", "zzz"), ("assistant", "You said: zzz"), ("user", "flour")]
    body = '{"messages" : [ {"role":"user","content":"gate"} ],  "n":1, "odd" : 1.50}'
    ask(shared, body=body)
    assert backend.log()[-1]["body"].decode().startswith(
        '{"messages" : [ {"role":"user","content":"When does the gate open?"},') and '"odd" : 1.50' in \
        backend.log()[-1]["body"].decode()


def test_a_template_has_examples_of_its_own_or_places_them_itself(shared, backend):
    ask(shared, prompt="the gate", template="own")
    assert said(backend) == [("user", "ping"), ("assistant", "pong"), ("user", "the gate")]
    ask(shared, prompt="the gate", template="placed")
    assert said(backend) == [("user", "When does the gate open? -> At dawn.\nthe gate")]


def test_a_reload_takes_other_contents(backend, daemon, files, tmp_path):
    few = tmp_path / "few.yaml"
    few.write_text(YAML)
    d = daemon(settings(backend, lanes=1, **{"assemble.few_shot": str(few)}))
    ask(d, prompt="q")
    assert said(backend) == POND + FLOUR + GATE + [("user", "q")]
    few.write_text("- user: a\n- b\n")
    result = d.cli("reload")
    assert result.returncode == 2 and f"{few}:1:" in result.stderr and "user" in result.stderr, result
    few.write_text("- {user: a, assistant: b}\n")
    assert d.cli("reload").returncode == 0
    ask(d, prompt="q")
    assert said(backend) == [("user", "a"), ("assistant", "b"), ("user", "q")]


def test_what_is_wrong_is_refused_with_file_and_line(tmp_path):
    def check(text):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        result = subprocess.run([MILLRACE, "check", str(path)], capture_output=True, text=True)
        return result.stdout + result.stderr

    (tmp_path / "bad.jsonl").write_text('{"user":"a","assistant":"b"}\n{"user":"a"}\n')
    assert "bad.jsonl:2: an example has" in check(f"assemble: {{few_shot: {tmp_path}/bad.jsonl}}\n")
    (tmp_path / "big.yaml").write_text("- {user: a, assistant: %s}\n" % ("x" * 70000))
    assert "few_shot_nearest" in check(f"assemble: {{few_shot: {tmp_path}/big.yaml}}\n")
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "a.mustache").write_text("---\nfew_shot: ../bad.jsonl\n---\n{{prompt}}")
    assert "a.mustache: few_shot: " in check(f"assemble: {{templates: {folder}}}\n")
    (folder / "a.mustache").write_text("x\n  {{>gone}}{{prompt}}")
    assert "a.mustache:2:3: there is no gone.mustache" in check(f"assemble: {{templates: {folder}}}\n")
    (folder / "gone.mustache").write_text("{{>*named}}")
    assert "assemble" not in check(f"assemble: {{templates: {folder}}}\n")


# ---- what is too long ------------------------------------------------------------------------------------------

def test_a_question_that_is_too_long_alone_is_refused_on_every_surface_with_both_numbers(backend, daemon, tmp_path):
    (tmp_path / "small.mustache").write_text("---\ncontext_tokens: 300\nmax_output_tokens: 100\n---\n{{prompt}}")
    d = daemon(settings(backend, lanes=1, **{"assemble.context_tokens": 2000, "assemble.max_output_tokens": 500,
                                             "assemble.templates": str(tmp_path)}))
    long = "word and word " * 700
    numbers = r"prompt: (\d+) tokens, at most 1500 are allowed"

    def refused(event):
        assert (event["code"], event["status"], event["retryable"]) == ("context_length_exceeded", 400, False), event
        assert int(re.search(numbers, event["message"])[1]) > 1500

    client = d.client()
    refused(client.submit(name(), prompt=long, rag=False)[-1])
    refused(client.submit(name(), session="s", body=json.dumps({"messages": [{"role": "user", "content": long}]}),
                          rag=False)[-1])
    for path, body in (("/v1/chat/completions", {"messages": [{"role": "user", "content": long}]}),
                       ("/v1/chat/completions", {"messages": [{"role": "user", "content": long}], "stream": True}),
                       ("/v1/completions", {"prompt": long}), ("/v1/responses", {"input": long})):
        status, _, told = ask_http(d, json.dumps({"model": "m", **body}).encode(), path=path)
        error = json.loads(told)["error"]
        assert (status, error["code"], error["type"]) == (400, "context_length_exceeded", "invalid_request_error"), told
        assert re.search(numbers, error["message"])
    ask(d, model="no_usage", prompt=long[:5000], params={"max_tokens": 10})
    event = client.submit(name(), prompt="x " * 400, template="small", rag=False)[-1]
    assert event["code"] == "context_length_exceeded" and "at most 200 are allowed" in event["message"]
    assert len(sent(backend)["messages"]) == 1  # the request before it: nothing was kept of what was refused


def test_what_does_not_fit_goes_turn_by_turn_and_without_a_context_nothing_is_refused(backend, daemon):
    d = daemon(settings(backend, lanes=1, **{"assemble.context_tokens": 1000, "assemble.max_output_tokens": 100,
                                             "sessions.history_turns": 20}))
    client, most = d.client(), 0
    for n in range(12):
        ask(d, "s", client, model="no_usage", prompt=f"q{n} " + "some words " * 40)  # its usage corrects no estimate
        roles = [m["role"] for m in sent(backend)["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        most = max(most, len(roles))
    assert 3 <= most < 23
    plain = daemon(settings(backend, lanes=1))
    ask(plain, prompt="word and word " * 20000)
