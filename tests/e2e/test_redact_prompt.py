"""Prompts without personal data: what a backend is sent, and what the client gets back."""

import json
import uuid

import pytest

from backend import SCENARIOS, Backend
from conftest import Daemon, check_sequence, text_of, wait_for
from test_backend import PATIENT
from test_http import ask as ask_raw

MAIL, CARD = "jane@example.com", "4012 8888 8888 1881"


def running(backend, **settings):
    workers = [{"name": "gpu", "kind": "openai", "base_url": backend.url, "timeouts": PATIENT}, {"name": "echo", "kind": "echo"}]
    return Daemon({"inference.workers": workers, "inference.models": {"echo": ["echo"], "*": ["gpu"]}, "lanes": 1,
                   "post.redact.entities": ["core"], **settings}).start()


@pytest.fixture(scope="module")
def backend():
    with Backend() as b:
        yield b


@pytest.fixture(scope="module")
def redacting(backend):
    """Prompts are redacted, a social security number blocks."""
    d = running(backend, **{"post.redact.input": True, "post.redact.actions": ["US_SSN=block"]})
    yield d
    d.finish()


def sent(backend):
    return backend.log()[-1]["body"].decode()


def ask_http(d, path, **body):
    status, _, answer = ask_raw(d, json.dumps({"model": "m", **body}), path=f"/v1/{path}")
    return status, json.loads(answer)


def ask(d, **frame):
    events = d.client().submit(str(uuid.uuid4()), rag=False, **frame)
    check_sequence(events)
    return events


def test_what_blocks_is_refused_before_a_backend_is_asked(redacting, backend):
    backend.clear()
    status, answer = ask_http(redacting, "chat/completions", messages=[{"role": "user", "content": "ssn 536-90-4399"}])
    assert status == 400 and answer["error"]["code"] == "content_filter" and answer["error"]["type"] == "invalid_request_error"
    assert "US_SSN" in answer["error"]["message"] and "4399" not in json.dumps(answer)
    error = ask(redacting, prompt="ssn 536-90-4399")[-1]
    assert error["ev"] == "error" and error["code"] == "content_filtered" and error["status"] == 400
    assert backend.log() == []


def test_a_backend_sees_no_find_and_every_other_byte(redacting, backend):
    body = ('{ "model":"m", "messages" : [{"role":"system","content":"of %s"},{"role":"assistant","content":null,"tool_calls":[{"id":"c",'
            '"type":"function","function":{"name":"f","arguments":"{\\"to\\":\\"%s\\"}"}}]},{"role":"tool","tool_call_id":"c",'
            '"content":"%s"},{"role":"user","content":[{"type":"text","text":"\\u00e9 %s"},{"type":"image_url","image_url":'
            '{"url":"https://example.com/%%40"}}]}], "x" : [1.50,"keep@example.com"],"stream":true,"stream_options":{"include_usage":true}}')
    given, want = body % (MAIL, MAIL, MAIL, CARD), body % (*["<EMAIL_ADDRESS>"] * 3, "<CREDIT_CARD>")
    events = ask(redacting, body=given)
    assert sent(backend) == want
    assert events[-1]["redactions"] == {"EMAIL_ADDRESS": 3, "CREDIT_CARD": 1}
    assert "redacted" not in json.dumps(events)


def test_a_long_body_and_other_endpoints_are_redacted_too(redacting, backend):
    ask(redacting, prompt=f"word {MAIL} " * 2000)
    assert json.loads(sent(backend))["messages"][-1]["content"] == "word <EMAIL_ADDRESS> " * 2000
    for path, member in (("completions", "prompt"), ("embeddings", "input")):
        assert ask_http(redacting, path, **{member: f"to {MAIL}"})[0] == 200
        assert json.loads(sent(backend))[member] == "to <EMAIL_ADDRESS>"


def test_finds_in_prompts_are_counted_and_echo_says_what_a_backend_would_see(redacting):
    events = ask(redacting, prompt=f"to {MAIL}, \u00e9 {MAIL}", model="echo")
    assert text_of(events) == "to <EMAIL_ADDRESS>, \u00e9 <EMAIL_ADDRESS>"
    assert events[-1]["redactions"] == {"EMAIL_ADDRESS": 2}
    long = f"{'word ' * 900}{MAIL} " * 4
    assert text_of(ask(redacting, prompt=long, model="echo")) == long.replace(MAIL, "<EMAIL_ADDRESS>")


def test_a_prompt_with_more_finds_than_a_record_holds_is_refused(redacting):
    error = ask(redacting, prompt=" ".join(f"u{n}@example.com" for n in range(9000)))[-1]
    assert error["code"] == "too_large" and error["status"] == 413
    assert text_of(ask(redacting, prompt="the next one", model="echo")) == "the next one"


# ---- put back ----------------------------------------------------------------------------------------


def piecewise(x):
    """Says what it was sent a few bytes at a time, as text, as reasoning, as a call's arguments, in two choices."""
    said = x.last_user().removeprefix("@piecewise ")
    x.head()
    for start in range(0, len(said), 3):
        piece = said[start:start + 3]
        x.delta({"reasoning_content": piece})
        x.delta({"content": piece}, choice={"logprobs": {"content": [{"token": piece}]}})
        x.delta({"content": piece}, index=1)
    x.delta({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]})
    arguments = json.dumps({"said": said})
    for start in range(0, len(arguments), 3):
        x.delta({"tool_calls": [{"index": 0, "function": {"arguments": arguments[start:start + 3]}}]})
    x.delta({}, "stop")
    x.delta({}, "stop", index=1)
    x.usage()
    return x.done()


@pytest.fixture(scope="module")
def restoring(backend, tmp_path_factory):
    rules = tmp_path_factory.mktemp("rules") / "own.rules"
    rules.write_text(r'pattern OWN 0.9 "x\\\d+"' + "\n")
    SCENARIOS["piecewise"] = piecewise
    d = running(backend, **{"post.redact.restore": True, "post.redact.rules": str(rules), "sessions.history_turns": 4})
    yield d
    d.finish()


def test_the_clients_own_values_come_back_in_every_stream_of_an_answer(restoring, backend):
    prompt = f'@piecewise mail {MAIL} and "x\\12", card {CARD}, <EMAIL_ADDRESS_9> <EMAIL {MAIL}'
    events = ask(restoring, prompt=prompt)
    numbered = '@piecewise mail <EMAIL_ADDRESS_1> and <OWN_1>, card <CREDIT_CARD_1>, <EMAIL_ADDRESS_9> <EMAIL <EMAIL_ADDRESS_1>'
    assert json.loads(sent(backend))["messages"][-1]["content"] == numbered
    want = prompt.removeprefix("@piecewise ")
    for choice in (0, 1):
        assert "".join(e["text"] for e in events if e.get("text") and e.get("choice", 0) == choice and "kind" not in e) == want
    assert "".join(e["text"] for e in events if e.get("kind") == "reasoning") == want
    arguments = "".join(e["tool"].get("arguments") or "" for e in events if e.get("tool"))
    assert json.loads(arguments) == {"said": want}
    assert events[-1]["redactions"] == {"EMAIL_ADDRESS": 2, "OWN": 1, "CREDIT_CARD": 1}


def test_what_only_a_document_says_does_not_come_back(restoring, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Zebras\n\nThe keeper of the zebras is keeper@example.org, or {MAIL}.\n")
    assert restoring.cli("index", "add", "--index", restoring.index, str(page)).returncode == 0
    c, answers = restoring.client(), []

    def answered():  # from the document, which is seen within a second
        events = c.submit(str(uuid.uuid4()), prompt=f"Who keeps zebras? I am {MAIL}", model="piecewise", rag=True)
        answers.append("".join(e["text"] for e in events if e.get("text") and "choice" not in e and "kind" not in e))
        return "zebras is" in answers[-1]
    wait_for("the document", answered)
    text = answers[-1]
    assert f"zebras is <EMAIL_ADDRESS_1>, or {MAIL}." in text and text.endswith(f"I am {MAIL}")


def test_what_the_model_says_of_its_own_is_redacted_all_the_same(restoring, backend):
    SCENARIOS["own"] = lambda x: (x.head(), x.delta({"content": "<EMAIL_ADDRESS_1> or bob@exam"}),
                                  x.delta({"content": "ple.org"}), x.delta({}, "stop"), x.done())[-1]
    events = ask(restoring, prompt=f"I am {MAIL}", model="own")
    assert text_of(events) == f"{MAIL} or <EMAIL_ADDRESS>"
    assert events[-1]["redactions"] == {"EMAIL_ADDRESS": 2}


def test_the_turns_of_a_session_are_redacted_and_come_back_too(restoring, backend):
    SCENARIOS["own"] = lambda x: (x.head(), x.delta({"content": "You are <EMAIL_ADDRESS_1>"}), x.delta({}, "stop"), x.done())[-1]
    ask(restoring, prompt=f"I am {MAIL}", model="own", session="s")
    events = ask(restoring, prompt="Who am I?", model="own", session="s")
    assert [m["content"] for m in json.loads(sent(backend))["messages"]] == [
        "I am <EMAIL_ADDRESS_1>", "You are <EMAIL_ADDRESS_1>", "Who am I?"]
    assert text_of(events) == f"You are {MAIL}"


def test_stop_strings_and_lists_see_placeholders_and_not_what_comes_back(backend, tmp_path):
    lists = tmp_path / "own.lists"
    lists.write_text("word NAMES EMAIL_ADDRESS_2\nword HOSTS example.com\n")
    d = running(backend, **{"post.redact.restore": True, "post.safety.mode": "flag", "post.safety.lists": str(lists)})
    try:
        events = ask(d, prompt=f"{MAIL} and bob@example.org END x", model="echo", params={"stop": ["example.com", "END"]})
        assert text_of(events) == f"{MAIL} and bob@example.org " and events[-1]["finish_reason"] == "stop"
        assert events[-1]["safety"] == {"HOSTS": 1, "NAMES": 1}
        assert events[-1]["redactions"] == {"EMAIL_ADDRESS": 2}
    finally:
        d.finish()


def test_values_come_back_after_kills_of_post_assemble_and_inference(restoring):
    c = restoring.client()
    for stage in ("assemble", "post"):
        id = str(uuid.uuid4())
        c.send(op="submit", id=id, prompt=f"{'word ' * 3000}{MAIL} " * 3 + f"END {MAIL}", model="echo", rag=False, params={"stop": ["END"]})
        c.wait(lambda e: e["ev"] == "accepted")
        restoring.kill(stage)
        events = c.events(id)
        assert text_of(events) == f"{'word ' * 3000}{MAIL} " * 3
        check_sequence(events)
