"""OpenAI's chat completions over HTTP, with raw sockets. (Complaints C1 C2 C5 C6 C10 C14 C16 C17 C25.)"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import tempfile
import threading
import time

import pytest

from backend import PROMPT_FILTER, Backend
from conftest import DEADLINE, echo, wait_for

PATIENT = {"connect_ms": 60000, "first_token_ms": 60000, "idle_ms": 60000, "total_ms": 60000}


@pytest.fixture(scope="module")
def backend():
    with Backend() as b:
        yield b


def serve(daemon, settings=None, **more):
    return daemon({**(settings or echo()), "lanes": 1, **more})


def behind(daemon, backend, timeouts=PATIENT, **more):
    worker = {"name": "gpu", "kind": "openai", "base_url": backend.url, "timeouts": timeouts}
    return serve(daemon, {"inference.workers": [worker], "inference.models": {"*": ["gpu"], "listed/one": ["gpu"]},
                          "inference.retry.base_ms": 1, "inference.retry.attempts": 1,
                          "inference.breaker.failures": 1000}, **more)


def port(d):
    return int(d.http()[0].rpartition(":")[2])


def connect(d):
    s = socket.create_connection(("127.0.0.1", port(d)), DEADLINE)
    s.settimeout(DEADLINE)
    return s


def body(text="hello", **more):
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()


def post(content, headers=""):
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
            f"Content-Length: {len(content)}\r\n\r\n").encode() + content


def read_until(s, mark, got=b""):
    while mark not in got:
        data = s.recv(65536)
        assert data, got
        got += data
    return got


def read_all(s):
    got = b""
    while data := s.recv(65536):
        got += data
    return got


def answer(s):
    """One whole answer: status, headers, body."""
    response = http.client.HTTPResponse(s)
    response.begin()
    return response.status, response.headers, response.read()


def ask(d, content=None, method="POST", path="/v1/chat/completions", **headers):
    c = http.client.HTTPConnection("127.0.0.1", port(d), timeout=DEADLINE)
    if content is not None:
        headers = {"Content-Type": "application/json", **headers}
    c.request(method, path, content, {k.replace("_", "-"): v for k, v in headers.items()})
    r = c.getresponse()
    got = r.status, r.headers, r.read()
    c.close()
    return got


def events(text):
    """The data of each event; comments are left out."""
    return [line[6:] for line in text.decode().split("\n") if line.startswith("data: ")]


def content(chunks):
    return "".join(c["delta"].get("content") or "" for e in chunks for c in e["choices"])


def test_health_models_and_a_unary_answer(daemon, backend):
    d = behind(daemon, backend)
    assert ask(d, method="GET", path="/healthz")[0] == 200
    status, _, ready = ask(d, method="GET", path="/readyz")
    assert (status, json.loads(ready)) == (200, {"status": "ready", "reasons": []})
    listed = json.loads(ask(d, method="GET", path="/v1/models")[2])
    assert [m["id"] for m in listed["data"]] == ["listed/one"]
    assert json.loads(ask(d, method="GET", path="/v1/models/listed%2Fone")[2])["object"] == "model"
    assert ask(d, method="GET", path="/v1/models/none")[0] == 404
    status, headers, text = ask(d, body("hi there"), x_request_id="abc-1", x_millrace_rag="off")
    whole = json.loads(text)
    assert status == 200 and headers["x-request-id"] == "abc-1" and headers["x-millrace-lane"] == "0"
    assert whole["object"] == "chat.completion" and whole["model"] == "m"
    assert whole["id"] == "chatcmpl-" + headers["x-millrace-id"]
    assert whole["choices"][0]["message"]["content"].startswith("You said: hi there")
    assert whole["choices"][0]["finish_reason"] == "stop" and whole["usage"]["total_tokens"] == 16
    stages = r"rag;dur=[\d.]+, assemble;dur=[\d.]+, inference;dur=[\d.]+, post;dur=[\d.]+"
    assert re.fullmatch(stages, headers["Server-Timing"])
    headers = ask(d, json.dumps({"model": "m", "input": "x"}), path="/v1/responses")[1]
    assert re.fullmatch(stages, headers["Server-Timing"]) and headers["x-millrace-id"] and headers["x-request-id"]
    assert abs(whole["created"] - time.time()) < DEADLINE


@pytest.mark.parametrize("asked", [True, False])
def test_c16_usage_is_asked_of_the_backend_and_told_only_to_who_asked(daemon, backend, asked):
    d = behind(daemon, backend)
    options = {"stream_options": {"include_usage": True}} if asked else {}
    _, headers, text = ask(d, body("x", stream=True, **options))
    data = events(text)
    assert data[-1] == "[DONE]"
    chunks = [json.loads(e) for e in data[:-1]]
    assert len({(c["id"], c["created"], c["model"]) for c in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert content(chunks).startswith("You said: x")
    finish = chunks[-2] if asked else chunks[-1]
    assert finish["choices"][0]["finish_reason"] == "stop"
    if asked:
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 16
        assert all(c["usage"] is None for c in chunks[:-1])
    else:
        assert not any(c.get("usage") for c in chunks)
    sent = json.loads(backend.log()[-1]["body"])
    assert sent["stream"] is True and sent["stream_options"]["include_usage"] is True
    ids = re.findall(r"^id: (\S+)$", text.decode(), re.M)
    assert ids == [f"{headers['x-millrace-id']}.{n + 1}" for n in range(len(ids))] and len(ids) > 2


@pytest.mark.parametrize("when", ["stall_after_one", "stall_head", "stall_before"])
@pytest.mark.parametrize("stream", [True, False])
def test_c5_c6_a_client_that_leaves_closes_the_backends_connection(daemon, backend, when, stream):
    d = behind(daemon, backend)
    s = connect(d)
    n = len(backend.log())
    s.sendall(post(body(f"x @{when}", stream=stream)))
    wait_for("the backend to be asked", lambda: len(backend.log()) > n)
    if stream and when == "stall_after_one":
        read_until(s, b'"content":')
        s.sendall(post(body("never read")))  # bytes that nobody has read do not hide the end
    s.close()
    assert wait_for("the close", lambda: backend.log()[n]["ended"]) == "client"
    wait_for("the slot", lambda: d.status()["requests"]["in_flight"] == 0)
    assert d.status()["requests"]["cancelled"] == 1


@pytest.mark.parametrize("scenario", ["cut", "reset", "no_finish"])
def test_c10_a_cut_backend_is_an_error_event_and_no_whole_end(daemon, backend, scenario):
    d = behind(daemon, backend)
    s = connect(d)
    s.sendall(post(body(f"x @{scenario}", stream=True)))
    got = read_all(s)
    last = json.loads(events(got)[-1])
    assert last["error"]["code"] == "upstream_error"
    assert b"[DONE]" not in got  # not in its message either: who looks for it in the text finds an end
    assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("scenario, status, code, retry, param", [
    ("http_500", 502, "upstream_error", "true", None), ("http_429", 429, "rate_limit_exceeded", "true", None),
    ("http_429_quota", 429, "insufficient_quota", "false", None),
    ("http_400", 400, "bad_temperature", "false", "temperature"),
    ("http_400_context", 400, "context_length_exceeded", "false", None),
    ("refuse", 502, "upstream_error", "true", None),
])
@pytest.mark.parametrize("stream", [True, False])
def test_c25_errors_keep_their_class_and_are_a_status_before_the_first_token(
        daemon, backend, scenario, status, code, retry, param, stream):
    d = behind(daemon, backend)
    got, headers, text = ask(d, body(f"x @{scenario}", stream=stream))
    error = json.loads(text)["error"]
    assert (got, error["code"], headers["x-should-retry"], error["param"]) == (status, code, retry, param), text
    if scenario == "http_429":
        assert headers["Retry-After"] == "7" and headers["retry-after-ms"] == "7000"


def test_a_bad_header_of_ours_is_named(daemon):
    d = serve(daemon)
    for name, value in (("x-millrace-priority", "urgent"), ("x-millrace-deadline-ms", "0"),
                        ("x-millrace-deadline-ms", "1.5"), ("x-millrace-rag", "maybe"), ("x-millrace-session", ""),
                        ("x-millrace-template", "none-such")):
        status, _, text = ask(d, body(), **{name: value})
        assert status == 400 and name in json.loads(text)["error"]["message"], (name, text)


def without(value, *names):
    return {k: v for k, v in value.items() if k not in names}


def test_members_that_millrace_does_not_know_come_through_where_they_stood(daemon, backend):
    """Null ones too, those before the first word, and those of tool calls."""
    d = behind(daemon, backend)
    chunks = [json.loads(e) for e in events(ask(d, body("x @vendor", stream=True))[2])[:-1]]
    fingerprint = {"system_fingerprint": "fp_1", "service_tier": None}
    ours = ("id", "object", "created", "model", "choices")
    assert [without(c, *ours) for c in chunks] == [
        {}, {"prompt_filter_results": PROMPT_FILTER}, fingerprint, fingerprint, {"provider": "here", **fingerprint}, {},
        fingerprint, fingerprint]
    choices = [c["choices"][0] for c in chunks]
    assert choices[3] == {"index": 0, "delta": {"content": "a", "annotations": [], "audio": None}, "logprobs": None,
                          "native": None, "finish_reason": None}
    calls = [c["delta"]["tool_calls"] for c in choices[4:7]]
    assert calls == [
        [{"index": 0, "id": "call_0", "type": "function", "function": {"name": "f", "arguments": "", "strict": None},
          "extra_content": {"google": {"thought_signature": "c2ln"}}}],
        [{"index": 1, "id": "call_1", "type": "function", "function": {"name": "g", "arguments": "{}"},
          "thought_signature": "x"}],
        [{"index": 0, "function": {"arguments": "[]"}, "late": 1.5}]]
    assert choices[7] == {"index": 0, "delta": {}, "content_filter_results": {}, "logprobs": None,
                          "finish_reason": "tool_calls"}
    whole = json.loads(ask(d, body("x @vendor"))[2])
    assert whole["usage"]["cost"] == 0.1 and whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 0}
    assert without(whole, *ours, "usage") == {"prompt_filter_results": PROMPT_FILTER, "provider": "here", **fingerprint}
    message = whole["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "a", "refusal": None, "annotations": [], "audio": None,
                       "tool_calls": [{**without(calls[0][0], "index"), "late": 1.5,
                                       "function": {"name": "f", "arguments": "[]", "strict": None}},
                                      without(calls[1][0], "index")]}
    native = d.client().submit("native", prompt="x @vendor", rag=False)
    told = [e["tool"] for e in native if e.get("tool")]
    assert json.loads(told[0]["extra"]) == {"extra_content": {"google": {"thought_signature": "c2ln"}},
                                            "function": {"strict": None}}
    assert told[2] == {"index": 0, "arguments": "[]", "extra": '{"late":1.5}'}
    last = json.loads(native[-1]["extra"])
    assert last["choices"] == [{"index": 0, "content_filter_results": {}}] and last["usage"] == whole["usage"]
    whole = json.loads(ask(d, body("x @filtered"))[2])
    assert whole["prompt_filter_results"] == PROMPT_FILTER
    assert whole["choices"][0]["content_filter_results"] == {"hate": {"filtered": True}}


def test_c25_a_refusal_in_mid_stream_keeps_the_backends_code_and_param(daemon, backend):
    d = behind(daemon, backend)
    s = connect(d)
    s.sendall(post(body("x @error_refused", stream=True)))
    error = json.loads(events(read_all(s))[-1])["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "image_parse_error", "messages[0]")
    events_seen = d.client().submit("native", prompt="x @error_refused", rag=False)
    assert events_seen[-1]["code"] == "invalid_request"  # the native dialect has names of its own


def test_a_repeated_key_joins_the_answer_and_other_content_is_a_conflict(daemon):
    d = serve(daemon, echo(gap_ms=50))
    first = connect(d)
    first.sendall(post(body("one two three four", stream=True), "Idempotency-Key: k1\r\n"))
    got = read_until(first, b"k1.1\n")
    second = connect(d)
    second.sendall(post(body("one two three four", stream=True), "Idempotency-Key: k1\r\n"))
    a, b = read_until(first, b"[DONE]\n\n", got), read_until(second, b"[DONE]\n\n")
    assert events(a) == events(b)
    assert ask(d, body("other"), Idempotency_Key="k1")[0] == 409
    third = connect(d)  # finished: replayed
    third.sendall(post(body("one two three four", stream=True), "Idempotency-Key: k1\r\n"))
    assert events(read_until(third, b"[DONE]\n\n")) == events(a)
    assert d.status()["requests"]["admitted"] == 1


def test_deadlines_bound_a_unary_answer_whole_and_a_stream_until_its_first_token(daemon):
    d = serve(daemon, echo(gap_ms=300))
    slow = "a b c d e f g h"
    status, headers, text = ask(d, body(slow), x_stainless_timeout="1")
    assert status == 504 and headers["x-should-retry"] == "false"
    assert json.loads(text)["error"]["code"] == "deadline_exceeded"
    assert ask(d, body(slow), x_millrace_deadline_ms="500")[0] == 504
    assert ask(d, body(slow), grpc_timeout="500m")[0] == 504
    status, _, text = ask(d, body(slow, stream=True), x_stainless_timeout="1")
    assert status == 200 and events(text)[-1] == "[DONE]"
    s = connect(d)
    s.sendall(post(body(slow, stream=True), "x-millrace-deadline-ms: 700\r\n"))
    assert json.loads(events(read_all(s))[-1])["error"]["code"] == "deadline_exceeded"
    late = serve(daemon, echo(delay_ms=20000))
    assert ask(late, body("x", stream=True), x_stainless_timeout="1")[0] == 504


def test_requests_in_one_piece_are_answered_in_their_order(daemon):
    d = serve(daemon)
    s = connect(d)
    s.sendall(b"".join(post(body(f"number {n}")) for n in range(20)))
    got = read_until(s, b'"content":"number 19"').decode()
    assert re.findall(r'"content":"number (\d+)"', got) == [str(n) for n in range(20)]


def test_streams_and_whole_answers_in_one_piece_come_in_their_order(daemon):
    d = serve(daemon)
    s = connect(d)
    get = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    s.sendall(post(body("a b", stream=True)) + post(body("c")) + get % b"healthz" + post(body("d e", stream=True)) + get % b"nowhere"
              + post(body("f"), "Connection: close\r\n"))
    got = read_all(s).decode()
    assert re.findall(r'HTTP/1.1 (\d+)|"content":"([^"]+)"|(\[DONE\])|"status":"(ok)"', got) == [
        ("200", "", "", ""), ("", "a ", "", ""), ("", "b", "", ""), ("", "", "[DONE]", ""), ("200", "", "", ""), ("", "c", "", ""),
        ("200", "", "", ""), ("", "", "", "ok"), ("200", "", "", ""), ("", "d ", "", ""), ("", "e", "", ""), ("", "", "[DONE]", ""),
        ("404", "", "", ""), ("200", "", "", ""), ("", "f", "", "")]


def test_c6_who_resets_at_once_or_at_any_byte_leaves_nothing_behind(daemon):
    d = serve(daemon, echo(gap_ms=5))
    gateway, asked = d.pid("gateway"), post(body("w " * 50, stream=True))
    for n in range(1000):
        with connect(d) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if n % 2:
                s.sendall(asked[:n])
    assert ask(d, body("after"))[0] == 200
    wait_for("the slots", lambda: d.status()["requests"]["in_flight"] == 0)
    wait_for("the connections", lambda: d.status()["gateways"][0]["connections"] == 0)
    assert d.pid("gateway") == gateway


def test_c2_a_large_body_arrives_and_one_too_large_is_told_so(daemon):
    d = serve(daemon, {**echo(), "admission.max_body_bytes": 1 << 20})
    text = "word " * 45000
    assert json.loads(ask(d, body(text))[2])["choices"][0]["message"]["content"] == text
    status, _, refused = ask(d, body("x" * (2 << 20)))  # its client reads the answer although it was still sending
    assert status == 413 and json.loads(refused)["error"]["code"] == "too_large"


def test_the_cap_of_an_address_holds_for_clients_behind_a_trusted_proxy(daemon):
    d = serve(daemon, **{"http.trusted_proxies": ["127.0.0.1"], "http.max_connections_per_address": 2})

    def passed_on(s, client):
        s.sendall(f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n\r\n".encode())
        return answer(s)[0]

    kept = [connect(d), connect(d)]
    assert [passed_on(s, "203.0.113.7") for s in kept] == [200, 200]
    assert passed_on(connect(d), "203.0.113.7, 127.0.0.1") == 503
    assert passed_on(connect(d), "203.0.113.8") == 200
    assert passed_on(kept[0], "203.0.113.9") == 200  # the proxy uses a connection for another client
    assert passed_on(connect(d), "203.0.113.7") == 200


def test_c17_a_drain_finishes_answers_refuses_new_ones_and_says_so(daemon):
    d = serve(daemon, echo(gap_ms=100))
    s = connect(d)
    s.sendall(post(body("one two three four five six seven eight nine ten", stream=True)))
    got = read_until(s, b'"content":"one ')
    idle = connect(d)
    os.kill(d.process.pid, signal.SIGTERM)
    wait_for("the refusals", lambda: ask(d, method="GET", path="/readyz")[0] == 503)
    idle.sendall(post(body("late")))
    status, headers, text = answer(idle)
    assert status == 503 and json.loads(text)["error"]["code"] == "draining" and headers["Retry-After"]
    got = read_until(s, b"[DONE]\n\n", got)
    assert content([json.loads(e) for e in events(got)[:-1]]).endswith("nine ten")
    assert d.process.wait(DEADLINE) == 0


def test_a_second_signal_ends_each_stream_with_one_error(daemon):
    d = serve(daemon, echo(gap_ms=20000))
    s = connect(d)
    s.sendall(post(body("one two", stream=True)))
    read_until(s, b'"content":"one ')
    os.kill(d.process.pid, signal.SIGTERM)
    wait_for("the drain", lambda: d.status()["state"] == "draining")
    os.kill(d.process.pid, signal.SIGTERM)
    got = read_all(s)
    assert json.loads(events(got)[-1])["error"]["code"] == "draining"
    assert d.stop() == 1  # answers were cut


def test_a_gateway_is_replaced_under_load_and_no_answer_is_lost(daemon):
    d = serve(daemon, echo(gap_ms=5))
    stop, bad, good = threading.Event(), [], []

    def load(n):
        c = http.client.HTTPConnection("127.0.0.1", port(d), timeout=DEADLINE)
        while not stop.is_set():
            try:
                c.request("POST", "/v1/chat/completions", body(f"hello from {n}"), {"Content-Type": "application/json"})
                r = c.getresponse()
                got = json.loads(r.read())
                (good if got["choices"][0]["message"]["content"] == f"hello from {n}" else bad).append(got)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                c.close()  # it was idle just then: clients ask again
            except Exception as error:
                bad.append(error)
                return

    threads = [threading.Thread(target=load, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    s = connect(d)
    s.sendall(post(body(" ".join(map(str, range(200))), stream=True)))
    got = read_until(s, b'"content":"1 ')
    before = d.pid("gateway")
    assert d.cli("restart", "gateway").returncode == 0
    d.wait_ready("gateway", 0, before)
    got = read_until(s, b"[DONE]\n\n", got)
    n = len(good)
    wait_for("answers of the new one", lambda: len(good) > n + 20 or bad)
    stop.set()
    for t in threads:
        t.join()
    assert not bad, bad[:3]
    assert content([json.loads(e) for e in events(got)[:-1]]).endswith("199")
    s.close()


def test_a_killed_gateway_ends_connections_and_a_repeated_key_gets_the_whole_answer(daemon):
    d = serve(daemon, echo(gap_ms=100))
    words = "one two three four five six seven eight nine ten"
    s = connect(d)
    s.sendall(post(body(words, stream=True), "Idempotency-Key: k1\r\n"))
    read_until(s, b"k1.2\n")
    before = d.kill("gateway")
    try:
        assert not read_all(s).endswith(b"0\r\n\r\n")
    except ConnectionResetError:
        pass
    d.wait_ready("gateway", 0, before)
    again = connect(d)
    again.sendall(post(body(words, stream=True), "Idempotency-Key: k1\r\n"))
    got = read_until(again, b"[DONE]\n\n")
    assert content([json.loads(e) for e in events(got)[:-1]]) == words
    assert d.status()["requests"]["admitted"] == 1


def test_slow_heads_and_bodies_are_ended_and_idle_connections_are_not(daemon):
    d = serve(daemon, {**echo(), "http.head_timeout_ms": 300})
    idle, head, slow = connect(d), connect(d), connect(d)
    head.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
    slow.sendall(post(body("x"))[:-3])
    assert answer(head)[0] == 408 and answer(slow)[0] == 408
    assert head.recv(1) == b"" and slow.recv(1) == b""
    idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer(idle)[0] == 200


def test_connections_are_capped_in_all_and_for_each_address(daemon):
    d = serve(daemon, {**echo(), "http.max_connections_per_address": 3})
    some = [connect(d) for _ in range(3)]
    for s in some:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(s)[0] == 200
    try:
        assert connect(d).recv(1) == b""
    except ConnectionResetError:
        pass
    some.pop().close()

    def lets_in():
        with connect(d) as s:
            try:
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return answer(s)[0] == 200
            except (ConnectionError, http.client.HTTPException):
                return False
    wait_for("room", lets_in)


def test_pages_of_a_listed_origin_are_let_in(daemon):
    page = "https://app.example"
    d = serve(daemon, {**echo(), "http.allowed_origins": [page]})
    status, headers, _ = ask(d, method="OPTIONS", path="/v1/chat/completions", Origin=page, Access_Control_Request_Method="POST",
                             Access_Control_Request_Headers="content-type")
    assert status == 204 and headers["Access-Control-Allow-Origin"] == page
    status, headers, _ = ask(d, body(), Origin=page)
    assert status == 200 and headers["Access-Control-Allow-Origin"] == page and "Origin" in headers["Vary"]
    status, headers, _ = ask(d, body(stream=True), Origin=page)
    assert status == 200 and headers["Access-Control-Allow-Origin"] == page
    status, headers, _ = ask(d, b"{}", Origin=page)
    assert status == 400 and headers["Access-Control-Allow-Origin"] == page
    assert ask(d, body(), Origin="https://other.example")[0] == 403


def proxy_head(address):
    """Version 2, a TCP connection over IPv4 from there."""
    return (b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x21, 0x11, 0, 12]) + socket.inet_aton(address) + socket.inet_aton("127.0.0.1") +
            (1000).to_bytes(2, "big") + (80).to_bytes(2, "big"))


def test_behind_a_proxy_the_clients_address_is_the_one_that_counts(daemon):
    d = serve(daemon, {**echo(), "http.proxy_protocol": True, "http.max_connections_per_address": 1})
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    some = []
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        s = connect(d)
        for byte in proxy_head(address) + get:
            s.sendall(bytes([byte]))
        assert answer(s)[0] == 200
        some.append(s)
    for opening in (proxy_head("192.0.2.2") + get, get, b"PROXY TCP4 192.0.2.9 127.0.0.1 1000 80\r\n" + get):
        s = connect(d)
        s.sendall(opening)
        try:
            assert s.recv(1) == b""
        except ConnectionResetError:
            pass


def test_a_unix_socket_of_http_takes_any_host(daemon):
    directory = tempfile.mkdtemp(prefix="millrace-http-")
    path = os.path.join(directory, "h.sock")
    d = serve(daemon, {**echo(), "http.listen": [f"unix:{path}"]})
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(DEADLINE)
    s.connect(path)
    s.sendall(post(body("over a file")).replace(b"Host: localhost", b"Host: any.thing"))
    status, _, text = answer(s)
    assert status == 200 and json.loads(text)["choices"][0]["message"]["content"] == "over a file"
    s.sendall(post(body("w " * 50, stream=True)))
    read_until(s, b'"content"')
    s.close()
    wait_for("the slot", lambda: d.status()["requests"]["in_flight"] == 0)
    d.stop()
    shutil.rmtree(directory)


def test_web_pages_are_kept_away(daemon):
    d = serve(daemon)
    assert ask(d, body(), Host="evil.example")[0] == 403
    assert ask(d, body(), Origin="http://evil.example")[0] == 403
    assert ask(d, body(), Content_Type="text/plain")[0] == 415
    assert ask(d, body(), Content_Encoding="gzip")[0] == 415
    assert ask(d, method="OPTIONS", path="/v1/chat/completions", Origin="http://evil.example",
               Access_Control_Request_Method="POST")[0] == 403


def test_c1_streams_that_nobody_reads_cost_little_and_hurt_nobody(daemon, backend):
    d = behind(daemon, backend, **{"admission.max_in_flight": 64})
    pid = d.pid("gateway")

    def rss():  # what is its own: the log is shared
        with open(f"/proc/{pid}/status") as f:
            return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1)) * 1024

    ask(d, body("warm", stream=True))
    before = rss()
    stuck = [connect(d) for _ in range(32)]
    for s in stuck:
        s.sendall(post(body("x @long", stream=True)))
    for n in range(10):
        status, _, text = ask(d, body(f"and {n}"))
        assert status == 200, text
    assert rss() - before < 32 * 65536
    for s in stuck:
        s.close()
    wait_for("the slots", lambda: d.status()["requests"]["in_flight"] == 0)
