"""The form of answers: stop strings, limits, Markdown, white space, JSON; one daemon for all of it."""

import http.client
import itertools
import json
import urllib.error
import urllib.request

import pytest

from backend import SCENARIOS, Backend
from conftest import Daemon, check_sequence, text_of, wait_for

numbers = itertools.count()
WEATHER = {"type": "json_schema", "json_schema": {"name": "weather", "strict": True, "schema": {
    "type": "object", "properties": {"city": {"type": "string"}, "celsius": {"type": "number", "minimum": -90}},
    "required": ["city", "celsius"], "additionalProperties": False}}}


def scripted(x):
    """The last user message is JSON behind @scripted: pieces to say, and what comes behind them."""
    script = json.loads(x.last_user().split("@scripted ", 1)[1])
    x.head()
    for piece in script["pieces"]:
        index, text = piece if isinstance(piece, list) else (0, piece)
        x.delta({script.get("member", "content"): text}, index=index, choice=script.get("choice"))
    if script.get("stays"):
        x.sleep(600)
    for index in script.get("choices", [0]):
        x.delta({}, script.get("finish", "stop"), index=index)
    x.usage()
    return x.done()


@pytest.fixture(scope="module")
def world():
    SCENARIOS["scripted"] = scripted
    with Backend() as backend:
        workers = [{"name": "gpu", "kind": "openai", "base_url": backend.url}, {"name": "local", "kind": "echo"}]
        d = Daemon({"lanes": 1, "inference.workers": workers, "inference.dedup": "off",
                    "inference.models": {"*": ["gpu"], "echo": ["local"], "plain": ["gpu"]},
                    "post.format": ["plain=strip_markdown", "plain=trim"], "post.redact.entities": ["EMAIL_ADDRESS"]}).start()
        yield d, backend
        d.finish()
        del SCENARIOS["scripted"]


@pytest.fixture
def asks(world):
    d, _ = world
    def ask(pieces, model="gpt", body=None, **script):
        content = "@scripted " + json.dumps({"pieces": pieces, **script})
        whole = {"model": model, "messages": [{"role": "user", "content": content}], **(body or {})}
        events = d.client().submit(f"form-{next(numbers)}", body=json.dumps(whole), rag=False)
        check_sequence(events)
        return events
    return ask


def post(d, body, path="chat/completions"):
    request = urllib.request.Request(f"http://{d.http()[0]}/v1/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except http.client.IncompleteRead as broken:  # as a stream that breaks off is to end
        return 200, broken.partial.decode()


# ---- refusals ------------------------------------------------------------------------------------

def test_a_word_that_is_none_is_refused_with_its_place(world):
    result = world[0].cli("config", "--set", 'post.format=["trim","gpt=shout"]')
    assert result.returncode == 2 and "post.format.1" in result.stderr and "strip_markdown" in result.stderr


@pytest.mark.parametrize("member, value", [("stop", 7), ("stop", [1]), ("stop", ["x"] * 17), ("stop", ["x" * 256]),
                                           ("response_format", "json"), ("response_format", {"type": "x" * 33000})])
def test_members_that_cannot_be_held_to_are_refused_by_name(world, member, value):
    status, body = post(world[0], {"model": "echo", "messages": [{"role": "user", "content": "x"}], member: value})
    assert status == 400 and json.loads(body)["error"]["param"] == member


# ---- stop strings --------------------------------------------------------------------------------

def test_a_stop_string_ends_an_answer_and_lets_the_backend_go(world, asks):
    events = asks(["one E", "N", "D", "ing two E", "ND three"], body={"stop": ["END"]}, stays=True)
    assert text_of(events) == "one "
    assert events[-1]["finish_reason"] == "stop" and events[-1]["usage"]["completion_tokens"] > 0
    wait_for("the backend to be let go", lambda: [e["ended"] for e in world[1].log() if e["scenario"] == "scripted"][-1] == "client")


def test_the_start_of_a_stop_string_is_said_when_no_more_comes(asks):
    assert text_of(asks(["one E", "N"], body={"stop": "END"})) == "one EN"


def test_nothing_of_a_stop_string_leaves_however_it_is_cut(asks):
    text = "Hello there.\n\nHuman: what"
    for cut in range(len(text)):
        events = asks([text[:cut], text[cut:]], body={"stop": ["\n\nHuman:", "\n\nSystem:"]})
        assert text_of(events) == "Hello there." and events[-1]["finish_reason"] == "stop", cut
    assert text_of(asks(list(text), body={"stop": "\n\nHuman:"})) == "Hello there."


def test_what_redaction_holds_back_before_a_stop_string_is_said_redacted(asks):
    events = asks(["mail a@exam", "ple.com", "STOP", " and b@example.com"], body={"stop": "STOP"})
    assert text_of(events) == "mail <EMAIL_ADDRESS>" and events[-1]["redactions"] == {"EMAIL_ADDRESS": 1}


def test_other_choices_go_on_behind_a_stop_string(asks):
    events = asks(["zero STOP", [1, "one "], " zero", [1, "ST"], [1, "AY"]], body={"stop": "STOP", "n": 2}, choices=[0, 1])
    said = ["".join(e.get("text", "") for e in events if e["ev"] == "delta" and e.get("choice", 0) == c) for c in (0, 1)]
    assert said == ["zero ", "one STAY"]


def test_reasoning_is_not_looked_at_and_log_probabilities_do_not_spell_it(asks):
    events = asks(["a STOP b"], body={"stop": "STOP"}, member="reasoning_content")
    assert "".join(e.get("text", "") for e in events) == "a STOP b"
    events = asks(["a ", "STO", "P b"], body={"stop": "STOP"}, choice={"logprobs": {"content": [{"token": "secret"}]}})
    assert text_of(events) == "a " and "secret" not in json.dumps(events)


def test_a_text_that_may_have_its_stop_string_in_it_keeps_it(asks):
    assert text_of(asks(["a STOP"], body={"stop": "STOP", "include_stop_str_in_output": True})) == "a STOP"


def test_each_surface_has_stop_strings(world):
    d, _ = world
    ask = {"model": "echo", "messages": [{"role": "user", "content": "one two END three"}], "stop": "END"}
    status, body = post(d, ask)
    choice = json.loads(body)["choices"][0]
    assert (status, choice["message"]["content"], choice["finish_reason"]) == (200, "one two ", "stop")
    status, body = post(d, {**ask, "stream": True})
    assert "END" not in body and "three" not in body and '"finish_reason":"stop"' in body and body.endswith("data: [DONE]\n\n")
    status, body = post(d, {"model": "echo", "prompt": "one two END three", "stop": ["END"]}, "completions")
    assert json.loads(body)["choices"][0]["text"] == "one two "
    events = d.client().submit("native", prompt="one two END three", model="echo", params={"stop": ["END"]})
    assert text_of(events) == "one two " and events[-1]["finish_reason"] == "stop"
    events = d.client().submit("native2", body=json.dumps({**ask, "stop": "two"}), params={"stop": "END"})
    assert text_of(events) == "one two "


# ---- limits --------------------------------------------------------------------------------------

def test_what_has_no_tokens_of_its_own_is_held_to_max_tokens_by_the_estimate(world):
    d, _ = world
    events = d.client().submit("length", prompt="word " * 100, model="echo", params={"max_tokens": 10})
    said = text_of(events)
    assert said == "word " * said.count("word") and 5 <= said.count("word") <= 10
    assert events[-1]["finish_reason"] == "length" and 5 <= events[-1]["usage"]["completion_tokens"] <= 10
    events = d.client().submit("short", prompt="word " * 5, model="echo", params={"max_tokens": 10})
    assert text_of(events) == "word " * 5 and events[-1]["finish_reason"] == "stop"
    status, body = post(d, {"model": "echo", "input": "word " * 100, "max_output_tokens": 10}, "responses")
    response = json.loads(body)
    assert response["status"] == "incomplete" and response["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_backend_that_knows_no_limit_is_let_go_behind_it(world, asks):
    events = asks(["word "] * 50, body={"max_tokens": 10}, stays=True)
    assert 10 <= len(text_of(events).split()) <= 20 and events[-1]["finish_reason"] == "length"
    wait_for("the backend to be let go", lambda: world[1].log()[-1]["ended"] == "client")
    assert text_of(asks(list("word " * 4), body={"max_tokens": 10})) == "word " * 4


# ---- Markdown and white space --------------------------------------------------------------------

MARKED = "\n\n## Title\n\nSome **bold** [text](http://e.x), 2 * 3.\n\n```c\nint *p;\n```\n* item\n\n"


def test_one_models_answers_are_plain_and_others_keep_their_marks(asks):
    for pieces in ([MARKED], list(MARKED), [MARKED[:30], MARKED[30:]]):
        assert text_of(asks(pieces, model="plain")) == "Title\n\nSome bold text, 2 * 3.\n\nint *p;\n- item"
    assert text_of(asks([MARKED])) == MARKED


# ---- JSON ----------------------------------------------------------------------------------------

def test_json_that_is_what_was_asked_for_passes(asks):
    text = '{"city": "Li\\u00e8ge", "celsius": -3.5}'
    for pieces in ([text], list(text)):
        assert text_of(asks(pieces, body={"response_format": WEATHER})) == text
    assert text_of(asks(['{"a"', ":[1]}"], body={"response_format": {"type": "json_object"}})) == '{"a":[1]}'
    assert text_of(asks(["no JSON"], body={"response_format": {"type": "text"}})) == "no JSON"


@pytest.mark.parametrize("pieces, kept, why", [
    (["Sure! {}"], "", "it is not JSON"),
    (['{"city": "Bonn", "cel'], '{"city": "Bonn", "cel', "it ends within the document"),
    (['{"city": "Bonn",', ' "celsius": "3"}'], '{"city": "Bonn", "celsius": "3', "it is not what the schema asks for"),
    (['{"city": "Bonn"', "}"], '{"city": "Bonn"', "it is not what the schema asks for"),
    (['{"town": "Bonn"}'], '{"town', "it is not what the schema asks for"),
    ([""], "", "it is empty"),
])
def test_json_that_is_cut_or_wrong_ends_in_an_error(asks, pieces, kept, why):
    events = asks(pieces, body={"response_format": WEATHER}, finish="length" if "cut" in why else "stop")
    assert events[-1]["ev"] == "error" and events[-1]["code"] == "upstream_error" and why in events[-1]["message"]
    assert kept.startswith(text_of(events))  # what redaction had held back is dropped


def test_wrong_json_is_an_error_of_the_dialect(world):
    d, _ = world
    ask = {"model": "echo", "messages": [{"role": "user", "content": "no JSON"}], "response_format": {"type": "json_object"}}
    status, body = post(d, ask)
    assert status == 502 and json.loads(body)["error"]["type"] == "server_error"
    status, body = post(d, {**ask, "messages": [{"role": "user", "content": '{"a": no}'}], "stream": True})
    assert '"error"' in body and "[DONE]" not in body
    status, body = post(d, {"model": "echo", "input": "no", "text": {"format": {"type": "json_object"}}}, "responses")
    assert status == 502


def test_a_call_of_a_tool_in_place_of_json_is_none_of_it(asks, monkeypatch):
    def calls(x):
        x.head()
        x.delta({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]})
        x.delta({}, "tool_calls")
        return x.done()
    monkeypatch.setitem(SCENARIOS, "calls", calls)
    events = asks([], model="calls", body={"response_format": WEATHER})
    assert events[-1]["ev"] == "done" and events[-1]["finish_reason"] == "tool_calls", events


# ---- kills ---------------------------------------------------------------------------------------

def test_what_waits_crosses_a_kill_of_post(world, monkeypatch):
    """Half a stop string, half a mark and half a document came before it."""
    d, backend = world
    halves = {"stop": (["one S", "TOP two"], "one "), "plain": (["\n a **bo", "ld** b "], "a bold b"), "json": (['{"city": "B', 'onn", "celsius": 1}'], None)}
    gate = []

    def halved(x):
        name = x.last_user().split()[-1]
        x.head()
        x.delta({"content": halves[name][0][0]})
        while name not in gate and not x.backend.stopping:
            x.sleep(0.05)
        x.delta({"content": halves[name][0][1]})
        x.delta({}, "stop")
        return x.done()
    monkeypatch.setitem(SCENARIOS, "halved", halved)
    bodies = {"stop": {"stop": "STOP"}, "plain": {"model": "plain"}, "json": {"response_format": WEATHER}}
    c = d.client()
    first = {}
    for name, more in bodies.items():
        body = {"model": "gpt", "messages": [{"role": "user", "content": f"@halved {name}"}], **more}
        c.send(op="submit", id=f"half-{name}", body=json.dumps(body), rag=False)
        first[name] = [c.wait(lambda e: e["ev"] == "delta" and e["id"] == f"half-{name}")]
    killed = d.kill("post")
    d.wait_ready("post", 0, killed)
    gate.extend(halves)
    for name, (pieces, expected) in halves.items():
        events = first[name] + c.events(f"half-{name}")
        assert text_of(events) == (expected or "".join(pieces)), name
        assert events[-1]["ev"] == "done" and events[-1]["finish_reason"] == "stop"
        check_sequence(events)
