"""Real client libraries, pinned, against the real daemon and a scripted backend."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from backend import Backend, embedding  # noqa: E402
from conftest import BUILD, DEADLINE, ECHO, daemon, wait_for  # noqa: E402, F401

ANSWER = "You said: one two three"


@pytest.fixture(scope="session")
def libraries():
    folder = BUILD / "clients"
    done = subprocess.run([HERE / "install", folder], capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip("the client libraries cannot be installed here: " + done.stderr.strip()[-300:])
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


@pytest.fixture(scope="session")
def backend():
    with Backend() as b:
        yield b


def serve(daemon, backend, **more):
    worker = {"name": "gpu", "kind": "openai", "base_url": backend.url}
    return daemon({"inference.workers": [worker], "inference.models": {"any": ["gpu"], "listed": ["gpu"]},
                   "http.listen": ["127.0.0.1:0"], **more})


def url(d):
    return "http://" + re.search(r"millrace ready .*http=([^ ,]+)", d.log()).group(1)


def run(libraries, script, *arguments):
    """What the script printed, as JSON."""
    command = [libraries / "venv" / "bin" / "python", HERE / script] if script.endswith(".py") else ["node", libraries / script]
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    done = subprocess.run([*map(str, command), *arguments], capture_output=True, text=True, timeout=DEADLINE * 2, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def node(daemon, backend, libraries):
    d = serve(daemon, backend)
    return lambda case: run(libraries, "openai_node.mjs", case, url(d) + "/v1")


@pytest.fixture
def python(daemon, backend, libraries):
    d = serve(daemon, backend)
    return lambda case: run(libraries, "openai_python.py", case, url(d) + "/v1")


# ---- openai, Node ----------------------------------------------------------------------------------


def test_node_gets_errors_of_the_right_class_C25(node):
    refused = node("refused")
    assert (refused["error"], refused["status"]) == ("BadRequestError", 400)
    assert "temperature must be at most 2" in refused["message"]
    assert (node("limited")["error"], node("limited")["status"]) == ("RateLimitError", 429)
    unknown = node("unknown_model")
    assert (unknown["error"], unknown["code"]) == ("NotFoundError", "model_not_found")


def test_node_never_takes_a_cut_for_an_end_C10(node):
    seen = node("broken")
    assert seen["text"] == "Half " and seen["error"], seen


def test_node_unary(node):
    answer = node("unary")
    assert answer["object"] == "chat.completion" and answer["model"] == "any"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": ANSWER} | {
        k: v for k, v in answer["choices"][0]["message"].items() if k not in ("role", "content")}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


def test_node_stream(node):
    seen = node("stream")
    assert (seen["text"], seen["finish"], seen["usage"]) == (ANSWER, "stop", None)
    assert seen["roles"] == 1 and seen["models"] == ["any"]
    assert len(seen["ids"]) == 1 and len(seen["created"]) == 1


def test_node_gets_usage_only_when_it_asks_C16(node):
    seen = node("usage")
    assert seen["usage"] == {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


def test_node_tools(node):
    call = {"id": "call_1", "name": "weather", "arguments": '{"city":"Paris"}'}
    streamed = node("tools_stream")
    assert streamed["tools"] == [call] and streamed["finish"] == "tool_calls"
    message = node("tools_unary")["choices"][0]["message"]
    assert message["tool_calls"] == [{"id": "call_1", "type": "function", "function": {
        "name": "weather", "arguments": '{"city":"Paris"}'}}]


def test_node_choices(node):
    assert node("choices_stream")["choices"] == {"0": "zero zero", "1": "one one"}
    choices = node("choices_unary")["choices"]
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in choices] == [
        (0, "zero zero", "length"), (1, "one one", "stop")]


def test_node_unknown_members_come_through(node):
    answer = node("extras_unary")
    assert answer["system_fingerprint"] == "fp"
    assert answer["choices"][0]["logprobs"] == {"content": []}
    assert answer["choices"][0]["message"]["content"] == "a b"


def test_node_stream_helper(node):
    assert node("helper")["final"] == ANSWER


def test_node_abort_closes_the_backend_C5_C6(node, backend):
    backend.clear()
    node("abort")
    wait_for("the backend to be closed", lambda: [e for e in backend.log() if e["ended"] == "client"])


def test_node_models(node):
    assert node("models")["ids"] == ["any", "listed"]
    assert node("models")["one"]["object"] == "model"
    assert node("no_model")["status"] == 404


def test_node_embeddings(node):
    want = [embedding("hi"), embedding("there")]
    seen = node("embeddings")
    assert seen["model"] == "any" and seen["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    for kind in ("float", "base64"):
        assert [[round(x, 6) for x in row] for row in seen[kind]] == [[round(x, 6) for x in row] for row in want], kind


def test_node_legacy_completions(node):
    answer = node("completions_unary")
    assert answer["object"] == "text_completion" and answer["choices"][0]["text"] == "You said: one two"
    assert node("completions_stream") == {"text": "You said: one two", "finish": "stop"}


def test_node_responses(node):
    seen = node("responses_unary")
    assert (seen["status"], seen["text"]) == ("completed", "You said: one two")
    assert seen["usage"]["input_tokens"] == 11
    streamed = node("responses_stream")
    assert streamed["text"] == "You said: one two"
    assert streamed["types"][0] == "response.created" and streamed["types"][-1] == "response.completed"
    assert streamed["numbers"] == list(range(streamed["numbers"][0], streamed["numbers"][0] + len(streamed["numbers"])))


def test_node_puts_the_items_of_a_response_together_and_takes_no_cut_for_an_end_C10(node):
    seen = node("responses_items")
    assert seen["reasoning"] == {"text": "42", "items": ["reasoning", "message"]}
    assert seen["tools"] == {"text": "", "items": ['{"city":"Paris"}']}
    assert seen["cut"]["error"], seen


def test_node_background_responses_resume(node):
    seen = node("responses_background")
    assert seen["first"] in ("queued", "in_progress", "completed")
    assert (seen["status"], seen["text"]) == ("completed", "You said: one two")
    assert seen["numbers"][0] == 3 and seen["numbers"] == sorted(seen["numbers"])


# ---- openai, Python --------------------------------------------------------------------------------


def test_python_refusals(python):
    refused = python("refused")
    assert (refused["error"], refused["status"]) == ("BadRequestError", 400)
    broken = python("broken")
    assert broken["text"] == "Half " and broken["error"], broken


def test_python_unary_and_stream(python):
    seen = python("unary")
    assert (seen["text"], seen["finish"], seen["usage"]["total_tokens"]) == (ANSWER, "stop", 16)
    assert seen["request_id"] == seen["headers"]["x-request-id"]
    assert "x-millrace-id" in seen["headers"] and "inference;dur=" in seen["headers"]["server-timing"]
    assert python("stream") == {"text": ANSWER, "finish": "stop"}


def test_python_fifty_streams_at_once(python):
    assert python("many")["texts"] == [f"You said: number {n}" for n in range(50)]


def test_python_other_endpoints(python):
    rows = python("embeddings")["rows"]
    assert [[round(x, 6) for x in row] for row in rows] == [[round(x, 6) for x in embedding(t)] for t in ("hi", "there")]
    assert python("completions") == {"text": "You said: one two", "finish": "stop"}
    seen = python("responses")
    assert seen["text"] == seen["streamed"] == "You said: one two"
    assert seen["kinds"][-1] == "response.completed"


# ---- others ----------------------------------------------------------------------------------------


def test_ai_sdk(daemon, backend, libraries):
    base = url(serve(daemon, backend)) + "/v1"
    assert run(libraries, "ai_sdk.mjs", "unary", base)["text"] == ANSWER
    streamed = run(libraries, "ai_sdk.mjs", "stream", base)
    assert (streamed["text"], streamed["finish"], streamed["errors"]) == (ANSWER, "stop", [])
    broken = run(libraries, "ai_sdk.mjs", "broken", base)
    assert broken["errors"] or "thrown" in broken, broken
    assert len(run(libraries, "ai_sdk.mjs", "embeddings", base)["rows"]) == 2


def test_langchain(daemon, backend, libraries):
    base = url(serve(daemon, backend)) + "/v1"
    assert run(libraries, "langchain.mjs", "unary", base)["text"] == ANSWER
    assert run(libraries, "langchain.mjs", "stream", base)["text"] == ANSWER
    assert run(libraries, "langchain.mjs", "broken", base)["error"]


def curl(*arguments):
    done = subprocess.run(["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(int(DEADLINE)), *arguments],
                          capture_output=True, text=True)
    return done.stdout, done.returncode


def test_eventsource_resumes_where_its_gateway_was_killed(daemon, libraries):
    d = daemon({**ECHO, "inference.workers": [{"name": "local", "kind": "echo", "gap_ms": 30}],
                "http.listen": ["127.0.0.1:0"]})
    words = " ".join(f"w{n}" for n in range(60))
    made, _ = curl("-H", "content-type: application/json", "-d", json.dumps({"prompt": words}), url(d) + "/v1/jobs")
    events = url(d) + json.loads(made)["events_url"]
    source = subprocess.Popen(["node", libraries / "eventsource.mjs", events], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(DEADLINE, source.kill)
    timer.start()
    for line in source.stderr:
        if line.strip() == "event 10":
            break
    d.kill("gateway")
    out, _ = source.communicate()
    timer.cancel()
    seen = json.loads(out)
    assert seen["code"] == 204
    last = 0
    for event in seen["events"]:
        assert event.get("first", event["seq"]) == last + 1, (last, event)
        last = event["seq"]
        assert event["lastEventId"].endswith(f".{last}")
    assert seen["events"][-1]["ev"] == "done"
    assert "".join(e.get("text", "") for e in seen["events"] if e["ev"] == "delta") == words


def test_curl(daemon, backend):
    base = url(serve(daemon, backend)) + "/v1/chat/completions"
    body = {"model": "any", "messages": [{"role": "user", "content": "one two three"}]}
    out, code = curl("-H", "content-type: application/json", "-d", json.dumps(body), base)
    assert code == 0 and json.loads(out)["choices"][0]["message"]["content"] == ANSWER
    out, code = curl("-N", "-H", "content-type: application/json", "-d", json.dumps({**body, "stream": True}), base)
    assert code == 0 and out.rstrip().endswith("data: [DONE]")
    body["messages"][0]["content"] = "@cut"
    out, code = curl("-N", "-H", "content-type: application/json", "-d", json.dumps({**body, "stream": True}), base)
    assert code == 18 and '"error"' in out and "[DONE]" not in out  # 18: the transfer ended too soon
