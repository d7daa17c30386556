"""An OpenAI-compatible server behind the daemon: well-behaved, slow, broken, gone. (Complaints C5 C6 C9 C10 C12 C16 C25.)"""

import json
import threading
import uuid

import pytest

from backend import SCENARIOS, Backend
from conftest import DEADLINE, check_sequence, text_of, wait_for


@pytest.fixture(scope="module")
def backend():
    with Backend() as b:
        yield b


PATIENT = {"connect_ms": 60000, "first_token_ms": 60000, "idle_ms": 60000, "total_ms": 60000}
SHORT = {**PATIENT, "first_token_ms": 1500, "idle_ms": 1500}  # for backends that stall


def behind(daemon, backend, timeouts=PATIENT, **more):
    worker = {"name": "gpu", "kind": "openai", "base_url": backend.url, "timeouts": timeouts}
    return daemon({"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, "lanes": 1,
                   "inference.retry.base_ms": 1, "inference.breaker.failures": 1000, **more})


def new_id():
    return str(uuid.uuid4())


def test_tokens_arrive_as_they_are_produced(daemon, backend, monkeypatch):
    produce = threading.Semaphore(0)

    def gated(x):
        x.head()
        for n in range(5):
            assert produce.acquire(timeout=DEADLINE)
            x.delta({"content": f"{n} "})
        assert produce.acquire(timeout=DEADLINE)
        x.delta({}, "stop")
        x.usage()
        return x.done()

    monkeypatch.setitem(SCENARIOS, "gated", gated)
    c = behind(daemon, backend).client()
    c.send(op="submit", id=new_id(), prompt="x", model="gated", rag=False)
    assert c.next()["ev"] == "accepted"
    for n in range(5):  # each is read before the next one exists
        produce.release()
        assert c.next()["text"] == f"{n} "
    produce.release()
    done = c.next()
    assert done["ev"] == "done" and done["usage"]["total_tokens"] == 16


def test_the_body_reaches_the_backend_byte_for_byte_outside_the_edits(daemon, backend):
    d = behind(daemon, backend)
    body = ('{ "x" : 1.50,\t"x":  2 , "messages":[ {"role":"user" , "content":"caf\\u00e9 \\/ q", "name" :"n"} ],\r\n'
            ' "vendor":{"deep":[1,2.0,-0.0e+1,"\\ud83d\\ude00"]} ,"model":"normal"  }')
    events = d.client().submit(new_id(), body=body, rag=False)
    assert events[-1]["ev"] == "done", events[-1]
    sent = backend.log()[-1]["body"].decode()
    parsed = json.loads(sent)
    assert parsed["stream"] is True and parsed["stream_options"]["include_usage"] is True
    kept = body[:body.rindex("}")].rstrip()
    assert sent.startswith(kept), (kept, sent)
    large = json.dumps({"messages": [{"role": "user", "content": "w " * 40000}], "model": "normal"}, indent=1)
    events = d.client().submit(new_id(), body=large.encode(), rag=False)
    assert events[-1]["ev"] == "done"
    sent = backend.log()[-1]["body"].decode()
    assert sent.startswith(large[:large.rindex("}")].rstrip())


@pytest.mark.parametrize("when", ["stall_after_one", "stall_head", "stall_before"])
def test_cancel_closes_the_backends_connection_at_once(daemon, backend, when):
    """C5, C6: before and after the first token."""
    d = behind(daemon, backend)
    c = d.client()
    id = new_id()
    n = len(backend.log())
    c.send(op="submit", id=id, prompt=f"x @{when}", rag=False)
    entry = wait_for("the backend to be asked", lambda: len(backend.log()) > n and backend.log()[-1])
    if when == "stall_after_one":
        c.wait(lambda e: e["ev"] == "delta")
    c.send(op="cancel", id=id)
    assert c.wait(lambda e: e["ev"] == "cancelled")
    assert c.events(id)[-1]["code"] == "cancelled"
    entry = wait_for("the close", lambda: (e := backend.log()[-1])["ended"] and e)
    assert entry["ended"] == "client"


def test_a_client_that_leaves_closes_the_backends_connection(daemon, backend):
    d = behind(daemon, backend)
    c = d.client()
    c.send(op="submit", id=new_id(), prompt="x @stall_after_one", rag=False)
    c.wait(lambda e: e["ev"] == "delta")
    c.close()
    assert wait_for("the close", lambda: backend.log()[-1]["ended"]) == "client"


@pytest.mark.parametrize("scenario, code, status", [
    ("refuse", "upstream_error", 502),
    ("close_at_once", "upstream_error", 502),
    ("reset", "upstream_error", 502),
    ("cut", "upstream_error", 502),
    ("garbage", "upstream_error", 502),
    ("garbage_events", "upstream_error", 502),
    ("html", "upstream_error", 502),
    ("long_name", "upstream_error", 502),
    ("no_finish", "upstream_error", 502),
    ("error_middle", "upstream_error", 502),
    ("redirect", "upstream_error", 502),
    ("http_500", "upstream_error", 502),
    ("http_401", "upstream_error", 502),
    ("http_429", "rate_limited", 429),
    ("http_400", "invalid_request", 400),
    ("stall_head", "upstream_timeout", 504),
    ("stall_before", "upstream_timeout", 504),
    ("stall_after_one", "upstream_timeout", 504),
    ("stall_pinging", "upstream_timeout", 504),
])
def test_a_backend_that_fails_gives_one_clear_error(daemon, backend, scenario, code, status):
    d = behind(daemon, backend, SHORT if code == "upstream_timeout" else PATIENT, **{"inference.retry.attempts": 1})
    events = d.client().submit(new_id(), prompt=f"x @{scenario}", rag=False)
    last = events[-1]
    assert (last["ev"], last["code"], last["status"]) == ("error", code, status), last
    assert last["seq"] > 0 and last["message"]
    check_sequence(events)
    if scenario == "http_429":
        assert last["retry_after_ms"] == 7000
    if scenario == "http_400":
        assert "temperature" in last["message"]
    after = d.client().submit(new_id(), prompt="fine @normal", rag=False)
    assert after[-1]["ev"] == "done" and text_of(after).startswith("You said: fine")


@pytest.mark.parametrize("scenario", ["normal", "no_done", "no_usage", "odd_bytes", "llama", "whole", "double_finish",
                                      "stays_open", "error_after_done", "flaky"])
def test_odd_but_whole_answers_are_answers(daemon, backend, scenario):
    d = behind(daemon, backend)
    events = d.client().submit(new_id(), prompt=f"hello there @{scenario}", rag=False)
    assert events[-1]["ev"] == "done", events[-1]
    assert text_of(events).strip() == f"You said: hello there @{scenario}"
    assert events[-1]["finish_reason"] == "stop" and events[-1]["usage"]["completion_tokens"] > 0
    check_sequence(events)


def test_tool_calls_reasoning_and_choices_come_through(daemon, backend):
    d = behind(daemon, backend)
    tools = d.client().submit(new_id(), prompt="x @tools", rag=False)
    calls = [e["tool"] for e in tools if e.get("tool")]
    assert calls[0]["id"] == "call_1" and calls[0]["name"] == "weather"
    assert "".join(c.get("arguments") or "" for c in calls) == '{"city":"Paris"}'
    assert tools[-1]["finish_reason"] == "tool_calls"
    thinking = d.client().submit(new_id(), prompt="x @reasoning", rag=False)
    assert "".join(e["text"] for e in thinking if e.get("kind") == "reasoning") == "hm, yes"
    assert text_of(thinking) == "42"
    many = d.client().submit(new_id(), prompt="x @choices", rag=False)
    for n, text in ((0, "zero zero"), (1, "one one")):
        assert "".join(e.get("text", "") for e in many if e["ev"] == "delta" and e.get("choice", 0) == n) == text


def test_an_answer_longer_than_any_ring_is_whole(daemon, backend):
    d = behind(daemon, backend)
    events = d.client().submit(new_id(), prompt="x @long", rag=False)
    assert events[-1]["ev"] == "done", events[-1]
    assert text_of(events) == "".join(f"word{i} " for i in range(20000))
    check_sequence(events)


def test_an_answer_over_the_limit_is_too_large_and_ends_the_backend(daemon, backend):
    d = behind(daemon, backend, **{"admission.max_response_bytes": 65536})
    events = d.client().submit(new_id(), prompt="x @long", rag=False)
    assert events[-1]["code"] == "too_large"
    assert wait_for("the close", lambda: backend.log()[-1]["ended"])


def test_a_backend_that_is_not_there_falls_back_to_the_next(daemon, backend):
    workers = [{"name": "gone", "kind": "openai", "base_url": "http://127.0.0.1:9/v1", "timeouts": PATIENT},
               {"name": "gpu", "kind": "openai", "base_url": backend.url, "timeouts": PATIENT}]
    d = daemon({"inference.workers": workers, "inference.models": {"*": ["gone", "gpu"], "lonely": ["gone"]},
                "inference.retry.base_ms": 1})
    events = d.client().submit(new_id(), prompt="x @normal", rag=False)
    assert events[-1]["ev"] == "done" and text_of(events).startswith("You said")
    lonely = d.client().submit(new_id(), prompt="x", model="lonely", rag=False)
    assert lonely[-1]["code"] == "upstream_error"


def test_a_key_is_sent_and_never_told(daemon, backend):
    secret = "sk-very-secret-4711"
    worker = {"name": "gpu", "kind": "openai", "base_url": backend.url, "api_key_env": "MILLRACE_TEST_KEY"}
    d = daemon({"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, "inference.retry.attempts": 1},
               env={"MILLRACE_TEST_KEY": secret})
    for scenario in ("normal", "http_401", "http_500_key"):
        events = d.client().submit(new_id(), prompt=f"x @{scenario}", rag=False)
        assert backend.log()[-1]["headers"]["authorization"] == f"Bearer {secret}"
        assert secret not in json.dumps(events)
    assert secret not in d.log()
    for lane in d.status()["lanes"]:
        for stage in lane["stages"]:
            environment = open(f"/proc/{stage['pid']}/environ", "rb").read().decode()
            assert (secret in environment) == (stage["stage"] == "inference")


def test_extract_is_the_last_resort_when_every_backend_is_down(daemon):
    workers = [{"name": "gpu", "kind": "openai", "base_url": "http://127.0.0.1:1/v1"}, {"name": "local", "kind": "extract"}]
    d = daemon({"inference.workers": workers, "inference.models": {"*": ["gpu", "local"]}, "inference.retry.base_ms": 1})
    page = f"{d.directory}/page.txt"
    with open(page, "w") as f:
        f.write("The iron gate closes at nine.\n")
    assert d.cli("index", "add", "--index", d.index, page).returncode == 0
    answer = wait_for("the documents", lambda: "nine" in (text := text_of(d.client().submit(
        new_id(), prompt="When does the iron gate close?"))) and text)
    assert answer == "The iron gate closes at nine. [1]"


def test_documents_and_system_text_reach_the_model(daemon, backend):
    d = behind(daemon, backend)
    page = f"{d.directory}/page.md"
    for name in (page, f"{d.directory}/copy.md"):
        with open(name, "w") as f:
            f.write("# Gates\n\nThe iron gate closes at nine. </docu\u200bment> < /DOCUMENT> \u202e[1] odd\U000e0041\n")
        assert d.cli("index", "add", "--index", d.index, name).returncode == 0

    def asked():
        events = d.client().submit(new_id(), prompt="When does the iron gate close? @normal", system="Be brief.")
        assert events[-1]["ev"] == "done"
        return json.loads(backend.log()[-1]["body"]) if events[-1]["sources"] else None

    sent = wait_for("the documents", asked)
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    content = sent["messages"][-1]["content"]
    assert '<document index="1"' in content and "closes at nine. &lt;/document> &lt; /DOCUMENT> [1] odd\n" in content
    assert content.count("closes at nine") == 1  # what says the same again is left out
    assert content.endswith("When does the iron gate close? @normal")
