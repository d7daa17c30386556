"""/v1/jobs, legacy completions and embeddings over HTTP."""

import base64
import http.client
import json
import re
import struct
import urllib.parse

import pytest
from backend import Backend, embedding
from conftest import DEADLINE, ECHO, wait_for
from test_http import connect, port, post, read_until


def ask(d, method, path, body=None, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", port(d), timeout=DEADLINE)
    text = None if body is None else body if isinstance(body, str) else json.dumps(body)
    c.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
    r = c.getresponse()
    data = r.read()
    c.close()
    return r.status, dict(r.getheaders()), json.loads(data) if data else None


def events(d, path, headers=None):
    """Status, and the events of a stream that ends by itself: (id, event) each."""
    c = http.client.HTTPConnection("127.0.0.1", port(d), timeout=DEADLINE)
    c.request("GET", path, headers=headers or {})
    r = c.getresponse()
    text = r.read().decode()
    c.close()
    blocks = re.findall(r"id: (.+)\ndata: (.*)\n\n", text)
    return r.status, [(i, json.loads(e)) for i, e in blocks]


def text_of(found):
    return "".join(e.get("text", "") for _, e in found if e["ev"] == "delta")


# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("body, says", [
    ("[1]", "expected an object"), ("{", "not JSON"), ("{}", "prompt"), ('{"prompt":7}', "prompt"),
    ('{"prompt":"x","body":{"messages":[]}}', "only one"), ('{"body":"x"}', "body: expected an object"),
    ('{"prompt":"x","deadline_ms":0}', "deadline_ms"), ('{"body":{"messages":[{"role":1}]}}', "role")])
def test_a_job_that_cannot_be_is_a_400_that_says_why(daemon, body, says):
    d = daemon(ECHO)
    status, _, got = ask(d, "POST", "/v1/jobs", body)
    assert status == 400 and says in got["error"]["message"], got


def test_unknown_jobs_and_wrong_methods(daemon):
    d = daemon(ECHO)
    for method, path in (("GET", "/v1/jobs/none"), ("GET", "/v1/jobs/none/events"), ("DELETE", "/v1/jobs/none"),
                         ("GET", "/v1/jobs/%zz")):
        status, _, got = ask(d, method, path)
        assert status == 404 and got["error"]["code"] == "not_found", (method, path)
    status, headers, _ = ask(d, "PUT", "/v1/jobs/x", {})
    assert status == 405 and headers["Allow"] == "GET, HEAD, DELETE"
    status, headers, _ = ask(d, "GET", "/v1/jobs")
    assert status == 405 and headers["Allow"] == "POST"
    made = ask(d, "POST", "/v1/jobs", {"prompt": "a"})[2]
    for cursor in ({"Last-Event-ID": "other.3"}, {"Last-Event-ID": made["id"] + ".x"}):
        assert events(d, made["events_url"], cursor)[0] == 400
    assert events(d, made["events_url"] + "?after=-1")[0] == 400


@pytest.mark.parametrize("id", ["x%0d%0aX-Injected:%20yes", "resp_x%0d%0aX-Injected:%20yes", "%00", "a%7f", "%0a"])
def test_an_id_cannot_write_lines_of_the_answers_head(daemon, id):
    d = daemon(ECHO)
    for method, path in (("GET", "/v1/jobs/" + id), ("GET", f"/v1/jobs/{id}/events"), ("DELETE", "/v1/jobs/" + id),
                         ("GET", "/v1/responses/" + id), ("POST", f"/v1/responses/{id}/cancel"), ("GET", "/v1/models/" + id)):
        status, headers, got = ask(d, method, path)
        assert status == 404 and "X-Injected" not in headers and "x-millrace-id" not in headers, (method, path, headers)
    status, headers, got = ask(d, "POST", "/v1/jobs", {"id": urllib.parse.unquote(id), "prompt": "x"})
    assert status == 400 and "unprintable" in got["error"]["message"] and "x-millrace-id" not in headers, headers


def test_without_a_database_there_are_no_jobs(daemon):
    d = daemon({**ECHO, "stream.database": "none"})
    status, _, got = ask(d, "POST", "/v1/jobs", {"prompt": "a"})
    assert status == 400 and "database" in got["error"]["message"]


# ---- jobs --------------------------------------------------------------------------------------------


def test_a_job_from_its_202_to_its_result(daemon):
    d = daemon(ECHO)
    status, headers, made = ask(d, "POST", "/v1/jobs", {"prompt": "one two \u00e9 \"three\""})
    assert status == 202 and made["status"] in ("queued", "running", "completed")
    assert headers["x-millrace-id"] == made["id"] and made["events_url"] == f"/v1/jobs/{made['id']}/events"
    status, found = events(d, made["events_url"])
    assert status == 200 and text_of(found) == "one two \u00e9 \"three\"" and found[-1][1]["ev"] == "done"
    assert [i for i, _ in found] == [f"{made['id']}.{e['seq']}" for _, e in found]
    assert all(e["id"] == made["id"] for _, e in found)
    result = ask(d, "GET", f"/v1/jobs/{made['id']}")[2]
    assert (result["ev"], result["status"], result["text"]) == ("result", "completed", "one two \u00e9 \"three\"")
    assert result["finish_reason"] == "stop" and result["usage"]["total_tokens"] > 0 and result["error"] is None


def test_the_same_id_runs_once_and_other_content_is_a_conflict(daemon):
    d = daemon(ECHO)
    job = {"id": "a/b c", "prompt": "once"}
    made = ask(d, "POST", "/v1/jobs", job)[2]
    assert urllib.parse.unquote(made["events_url"]) == "/v1/jobs/a/b c/events"
    assert ask(d, "POST", "/v1/jobs", job)[0] == 202
    assert ask(d, "POST", "/v1/jobs", {"prompt": "once"}, {"Idempotency-Key": "a/b c"})[0] == 202
    assert ask(d, "POST", "/v1/jobs", {**job, "prompt": "twice"})[0] == 409
    assert text_of(events(d, made["events_url"])[1]) == "once"
    wait_for("the end", lambda: d.status()["requests"]["in_flight"] == 0)
    assert d.status()["requests"]["admitted"] == 1


def test_a_body_and_parameters_reach_the_backend(daemon):
    with Backend() as b:
        d = daemon({"inference.workers": [{"name": "gpu", "kind": "openai", "base_url": b.url}],
                    "inference.models": {"*": ["gpu"]}})
        body = {"messages": [{"role": "user", "content": "hi there"}], "odd": [1.5, None]}
        made = ask(d, "POST", "/v1/jobs", {"model": "m", "body": body, "params": {"temperature": 0.5}})[2]
        assert text_of(events(d, made["events_url"])[1]) == "You said: hi there"
        sent = json.loads(b.log()[0]["body"])
        assert sent["odd"] == [1.5, None] and sent["temperature"] == 0.5 and sent["model"] == "m"


def test_readers_resume_and_what_has_ended_is_204(daemon):
    d = daemon(ECHO)
    made = ask(d, "POST", "/v1/jobs", {"prompt": "one two three four"})[2]
    whole = events(d, made["events_url"])[1]
    for after in range(1, len(whole)):
        assert events(d, f"{made['events_url']}?after={after}")[1] == whole[after:]
        assert events(d, made["events_url"] + "?after=1", {"Last-Event-ID": f"{made['id']}.{after}"})[1] == whole[after:]
    last = whole[-1][1]["seq"]
    assert events(d, f"{made['events_url']}?after={last}") == (204, [])


def test_a_cursor_behind_all_that_will_come_ends_with_the_job(daemon):
    d = daemon({**ECHO, "inference.workers": [{"name": "local", "kind": "echo", "gap_ms": 50}]})
    made = ask(d, "POST", "/v1/jobs", {"prompt": "w " * 20})[2]
    status, found = events(d, made["events_url"] + "?after=1000")  # it runs: more may come
    assert status == 200 and [e["ev"] for _, e in found] == ["done"]
    assert events(d, made["events_url"] + "?after=1000") == (204, [])


def test_head_of_a_stream_has_no_body_and_the_connection_goes_on(daemon):
    d = daemon(ECHO)
    made = ask(d, "POST", "/v1/jobs", {"prompt": "one two"})[2]
    get = f" {made['events_url']} HTTP/1.1\r\nHost: localhost\r\n"
    s = connect(d)
    s.sendall(f"HEAD{get}\r\nHEAD{get}Last-Event-ID: {made['id']}.1\r\n\r\nGET{get}\r\n".encode())
    got = read_until(s, b"\r\n0\r\n\r\n").decode()
    heads = got.split("HTTP/1.1 ")[1:]
    assert len(heads) == 3 and all("text/event-stream" in h for h in heads)
    assert all(h.endswith("\r\n\r\n") and "data:" not in h for h in heads[:2]) and "data:" in heads[2]


def test_two_readers_get_the_same_and_a_killed_gateway_costs_nothing(daemon):
    d = daemon({**ECHO, "inference.workers": [{"name": "local", "kind": "echo", "gap_ms": 30}]})
    words = " ".join(f"w{n}" for n in range(40))
    made = ask(d, "POST", "/v1/jobs", {"prompt": words})[2]
    s = connect(d)
    s.sendall(f"GET {made['events_url']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    got = read_until(s, b"w5 ").decode()
    last = int(re.findall(r"id: \S+\.(\d+)\ndata: .*\n\n", got)[-1])
    d.kill("gateway")
    d.wait_ready("gateway", 0, None)

    def rest():
        try:
            return events(d, made["events_url"], {"Last-Event-ID": f"{made['id']}.{last}"})[1]
        except (ConnectionError, http.client.HTTPException):
            return None
    found = wait_for("the rest", rest)
    first = text_of([("", json.loads(e)) for e in re.findall(r"data: (.*)\n\n", got)][:last])
    assert first + text_of(found) == words
    assert found == events(d, f"{made['events_url']}?after={last}")[1] or text_of(found) == words[len(first):]


def test_delete_cancels_and_answers_with_the_result(daemon):
    d = daemon({**ECHO, "inference.workers": [{"name": "local", "kind": "echo", "gap_ms": 20000}]})
    made = ask(d, "POST", "/v1/jobs", {"prompt": "one two three"})[2]
    status, _, result = ask(d, "DELETE", f"/v1/jobs/{made['id']}")
    assert (status, result["status"], result["error"]["code"]) == (200, "cancelled", "cancelled")
    assert ask(d, "GET", f"/v1/jobs/{made['id']}")[2]["status"] == "cancelled"
    status, found = events(d, made["events_url"])
    assert status == 200 and found[-1][1]["ev"] == "error" and found[-1][1]["code"] == "cancelled"
    assert ask(d, "DELETE", f"/v1/jobs/{made['id']}")[2]["status"] == "cancelled"


def test_jobs_outlive_the_daemon(daemon):
    d = daemon(ECHO)
    made = ask(d, "POST", "/v1/jobs", {"prompt": "kept"})[2]
    events(d, made["events_url"])
    assert d.stop() == 0
    again = daemon(ECHO, name=d.instance, directory=d.directory)
    assert ask(again, "GET", f"/v1/jobs/{made['id']}")[2]["text"] == "kept"
    assert text_of(events(again, made["events_url"])[1]) == "kept"


# ---- other endpoints ---------------------------------------------------------------------------------


def test_what_is_no_completion_and_no_embedding_is_refused(daemon):
    d = daemon(ECHO)
    for path, body, says in (("/v1/completions", {}, "prompt"), ("/v1/completions", {"prompt": {}}, "prompt"),
                             ("/v1/embeddings", {}, "input"), ("/v1/embeddings", {"input": 7}, "input"),
                             ("/v1/embeddings", {"input": "x"}, "embeddings")):
        status, _, got = ask(d, "POST", path, body)
        assert status == 400 and says in got["error"]["message"], (path, body, got)


def test_legacy_completions_unary_and_streamed(daemon):
    d = daemon(ECHO)
    status, headers, got = ask(d, "POST", "/v1/completions", {"prompt": "one two", "model": "m"})
    assert status == 200 and got["object"] == "text_completion" and got["model"] == "m"
    assert got["choices"][0]["text"] == "one two" and got["choices"][0]["finish_reason"] == "stop"
    s = connect(d)
    s.sendall(post(json.dumps({"prompt": "one two", "stream": True}).encode()).replace(b"/chat/", b"/"))
    text = read_until(s, b"[DONE]\n\n").decode()
    chunks = [json.loads(e) for e in re.findall(r"data: (\{.*\})\n\n", text)]
    assert "".join(c["choices"][0]["text"] for c in chunks) == "one two"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_embeddings_are_the_backends_own(daemon):
    with Backend() as b:
        d = daemon({"inference.workers": [{"name": "gpu", "kind": "openai", "base_url": b.url, "model": "up"}],
                    "inference.models": {"*": ["gpu"]}})
        texts = ["hi", "there"] * 400
        status, _, got = ask(d, "POST", "/v1/embeddings", {"model": "mine", "input": texts})
        assert status == 200 and got["model"] == "mine" and got["odd"] == {"kept": [1.5]}
        assert [row["embedding"] for row in got["data"]] == [embedding(t) for t in texts]
        packed = ask(d, "POST", "/v1/embeddings", {"input": "hi", "encoding_format": "base64"})[2]["data"][0]["embedding"]
        assert list(struct.unpack("<3f", base64.b64decode(packed))) == embedding("hi")
        status, _, got = ask(d, "POST", "/v1/embeddings", {"input": "@http_429"})
        assert status == 429 and got["error"]["type"] == "rate_limit_error"
