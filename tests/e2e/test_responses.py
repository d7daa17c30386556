"""OpenAI's Responses API over HTTP. (Complaints C5 C9 C10.)"""

import http.client
import json
import os
import re
import time

import pytest

from conftest import DEADLINE, echo, wait_for
from test_http import answer, ask, backend, behind, connect, port, read_all, read_until, serve  # noqa: F401


def post(d, input="one two three", **more):
    status, headers, text = ask(d, json.dumps({"model": "m", "input": input, **more}).encode(), path="/v1/responses",
                                **{k: more.pop(k) for k in [k for k in more if k.startswith("x_")]})
    return status, headers, text


def get(d, id, query=""):
    return ask(d, method="GET", path=f"/v1/responses/{id}{query}")


def retrieve(d, id):
    status, _, text = get(d, id)
    assert status == 200, text
    return json.loads(text)


def finished(d, id):
    return wait_for("the response to end", lambda: (r := retrieve(d, id))["status"] not in ("queued", "in_progress") and r)


def parsed(stream):
    """The events of a stream: each has its name, its id and its number in order."""
    events = []
    for block in stream.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        if lines == [""] or not lines:
            continue
        event, id, data = (line.split(": ", 1)[1] for line in lines)
        data = json.loads(data)
        assert data["type"] == event and id.endswith(f".{data['sequence_number']}"), block
        events.append(data)
    numbers = [e["sequence_number"] for e in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    return events


def names(events):
    return [e["type"].removeprefix("response.") for e in events]


def text_of(response):
    return "".join(p["text"] for item in response["output"] if item["type"] == "message" for p in item["content"])


def start(d, input="one two three", **more):
    """A stream that is left open: its socket, behind the head."""
    body = json.dumps({"model": "m", "input": input, "stream": True, **more}).encode()
    s = connect(d)
    s.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return s


def again(daemon, d, settings=None):
    """The daemon is ended with all its memory, and another one of the same name started in the same folder."""
    assert d.stop() == 0
    return daemon({**(settings or echo()), "http.listen": ["127.0.0.1:0"], "lanes": 1}, name=d.instance, directory=d.directory)


def unchunked(got):
    """What whole chunks say, of a stream that was perhaps cut."""
    at, out = got.index(b"\r\n\r\n") + 4, []
    while (end := got.find(b"\r\n", at)) >= 0:
        n = int(got[at:end], 16)
        at = end + 2 + n + 2
        if n == 0 or at > len(got):
            break
        out.append(got[end + 2:end + 2 + n])
    return b"".join(out)


# ---- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more, member", [
    ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0].file_id"),
    ({"input": 7}, "input"), ({"background": "yes"}, "background"),
])
def test_what_no_backend_can_be_asked_is_refused_by_its_member(daemon, backend, more, member):
    d = behind(daemon, backend)
    status, _, text = post(d, **more)
    error = json.loads(text)["error"]
    assert (status, error["code"], error["param"]) == (400, "invalid_request", member) and member in error["message"]


def test_ids_that_are_not_known_or_not_in_the_background_are_not_found(daemon, backend):
    d = behind(daemon, backend)
    plain = json.loads(post(d)[2])["id"]
    for id in (plain, "resp_nobody", "nobody", "resp_" + "x" * 200, "resp_%zz"):
        for method, path in (("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel")):
            status, _, text = ask(d, b"" if method == "POST" else None, method, f"/v1/responses/{id}{path}")
            assert (status, json.loads(text)["error"]["code"]) == (404, "not_found"), (id, path)
    assert get(d, plain, "?stream=maybe")[0] == 400
    assert get(d, plain, "?stream=true&starting_after=-1")[0] == 400
    assert ask(d, method="DELETE", path=f"/v1/responses/{plain}")[0] == 405
    assert ask(d, method="GET", path=f"/v1/responses/{plain}/cancel")[0] == 405


def test_without_a_database_nothing_runs_in_the_background(daemon):
    d = serve(daemon, echo(**{"stream.database": "none"}))
    for stream in (True, False):
        status, _, text = post(d, background=True, stream=stream)
        assert (status, json.loads(text)["error"]["code"]) == (400, "invalid_request"), text
    assert post(d)[0] == 200


# ---- asking --------------------------------------------------------------------------------------------------


def test_a_unary_response_is_asked_as_a_chat_and_comes_whole(daemon, backend):
    d = behind(daemon, backend)
    status, headers, text = post(d, instructions="be kind", max_output_tokens=50, user="u",
                                 input=[{"role": "user", "content": [{"type": "input_text", "text": "hi there"}]}])
    whole = json.loads(text)
    assert status == 200 and whole["id"] == "resp_" + headers["x-millrace-id"] and headers["x-millrace-lane"] == "0"
    assert (whole["object"], whole["status"], whole["model"], whole["background"]) == ("response", "completed", "m", False)
    assert text_of(whole).startswith("You said: hi there") and whole["output"][0]["status"] == "completed"
    assert whole["usage"]["input_tokens"] == 11 and whole["usage"]["total_tokens"] == 16
    assert abs(whole["created_at"] - time.time()) < DEADLINE
    asked = json.loads(backend.log()[-1]["body"])
    assert [m["role"] for m in asked["messages"]] == ["system", "user"] and "be kind" in asked["messages"][0]["content"]
    assert asked["max_tokens"] == 50 and "input" not in asked and "instructions" not in asked


def test_a_stream_has_every_event_once_and_the_whole_texts_at_their_ends(daemon, backend):
    d = behind(daemon, backend)
    status, headers, text = post(d, stream=True)
    events = parsed(text)
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert status == 200 and headers["Content-Type"].startswith("text/event-stream") and events[0]["sequence_number"] == 0
    assert names(events) == (["created", "in_progress", "output_item.added", "content_part.added"]
                             + ["output_text.delta"] * len(deltas)
                             + ["output_text.done", "content_part.done", "output_item.done", "completed"])
    assert "".join(deltas) == events[-4]["text"] == text_of(events[-1]["response"]) and len(deltas) > 1


def test_tools_and_reasoning_are_items_of_their_own(daemon, backend):
    d = behind(daemon, backend)
    call = json.loads(post(d, input="x @tools", tools=[{"type": "function", "name": "weather"}])[2])["output"][-1]
    assert (call["type"], call["call_id"], call["name"], call["arguments"]) == (
        "function_call", "call_1", "weather", '{"city":"Paris"}')
    events = parsed(post(d, input="x @reasoning", stream=True)[2])
    items = events[-1]["response"]["output"]
    assert [i["type"] for i in items] == ["reasoning", "message"] and items[0]["content"][0]["text"] == "hm, yes"
    assert text_of(events[-1]["response"]) == "42"


@pytest.mark.parametrize("stream", [True, False])
def test_c9_a_failure_before_the_first_token_is_a_status(daemon, backend, stream):
    d = behind(daemon, backend)
    status, headers, text = post(d, input="x @http_429", stream=stream)
    assert (status, json.loads(text)["error"]["code"]) == (429, "rate_limit_exceeded") and headers["Retry-After"] == "7"


def test_c10_a_cut_backend_is_a_failed_response_and_no_whole_end(daemon, backend):
    d = behind(daemon, backend)
    got = read_all(start(d, "x @cut"))
    last = parsed(unchunked(got))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"]["code"] == "upstream_error" and text_of(last["response"]) == "Half "
    assert not got.endswith(b"0\r\n\r\n")


def test_c5_a_client_that_leaves_a_stream_ends_it_unless_it_is_in_the_background(daemon):
    d = serve(daemon, echo(gap_ms=100))
    slow = "w " * 200
    s = start(d, slow)
    read_until(s, b"response.output_text.delta")
    s.close()
    wait_for("the slot", lambda: d.status()["requests"]["cancelled"] == 1)
    s = start(d, "a b c", background=True)
    id = json.loads(re.search(rb"data: (\{.*\})", read_until(s, b"response.in_progress")).group(1))["response"]["id"]
    s.close()
    assert text_of(finished(d, id)) == "a b c"


# ---- in the background ---------------------------------------------------------------------------------------


def test_a_background_response_is_queued_then_read_by_its_id(daemon, backend):
    d = behind(daemon, backend)
    status, _, text = post(d, background=True)
    first = json.loads(text)
    assert (status, first["status"], first["background"], first["output"]) == (200, "queued", True, [])
    whole = finished(d, first["id"])
    assert (whole["status"], whole["model"], whole["created_at"]) == ("completed", "m", first["created_at"])
    assert text_of(whole) == "You said: one two three"
    everything = get(d, first["id"], "?stream=true")[2]
    events = parsed(everything)
    assert names(events)[:2] == ["created", "in_progress"] and events[-1]["response"] == whole
    for after in range(len(events)):
        rest = get(d, first["id"], f"?stream=true&starting_after={after}")[2]
        assert everything.endswith(rest) and len(parsed(rest)) == len(events) - after - 1


def test_a_background_response_that_fails_says_so_to_who_asks_for_it(daemon, backend):
    d = behind(daemon, backend)
    id = json.loads(post(d, input="x @http_400", background=True)[2])["id"]
    whole = finished(d, id)
    assert whole["status"] == "failed" and whole["error"]["message"]
    assert names(parsed(get(d, id, "?stream=true")[2])) == ["created", "in_progress", "failed"]


def test_a_reader_that_was_cut_off_goes_on_at_another_gateway(daemon):
    d = serve(daemon, echo(gap_ms=40))
    words = " ".join(f"w{n}" for n in range(60))
    s = start(d, words, background=True)
    got = read_until(s, b'"sequence_number":9,')
    pid = d.kill("gateway")
    got += read_all(s)
    before = parsed(unchunked(got))
    id, last = before[0]["response"]["id"], before[-1]["sequence_number"]
    assert before[-1]["type"] == "response.output_text.delta"
    d.wait_ready("gateway", 0, pid)
    rest = get(d, id, f"?stream=true&starting_after={last}")[2]
    after = parsed(rest)
    assert after[0]["sequence_number"] == last + 1 and after[-1]["type"] == "response.completed"
    deltas = [e["delta"] for e in before + after if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == words == text_of(after[-1]["response"])
    assert get(d, id, "?stream=true")[2] == unchunked(got) + rest


def test_a_response_is_the_same_after_the_daemon_was_ended_and_started(daemon):
    d = serve(daemon)
    id = json.loads(post(d, background=True)[2])["id"]
    whole = finished(d, id)
    stream = get(d, id, "?stream=true")[2]
    d = again(daemon, d)
    assert retrieve(d, id) == whole and get(d, id, "?stream=true")[2] == stream


def test_a_long_answer_that_comes_back_from_the_database_joined_has_its_numbers_again(daemon):
    small = {"stream.log_bytes": 4 << 20, "admission.max_in_flight": 16}
    d = serve(daemon, {**echo(), **small})
    id = json.loads(post(d, "word " * 30000, background=True)[2])["id"]
    whole = finished(d, id)
    stream = get(d, id, "?stream=true&starting_after=20000")[2]
    d = again(daemon, d, {**echo(), **small})
    assert get(d, id, "?stream=true&starting_after=20000")[2] == stream and retrieve(d, id) == whole


def test_a_reader_that_fell_behind_gets_every_event_all_the_same(daemon):
    d = serve(daemon)
    words = "word " * 20000
    s = start(d, words, background=True)
    id = json.loads(re.search(rb"data: (\{.*\})", got := read_until(s, b"response.in_progress")).group(1))["response"]["id"]
    finished(d, id)
    while not got.endswith(b"\r\n0\r\n\r\n"):
        got += s.recv(65536)
    assert unchunked(got) == get(d, id, "?stream=true")[2] and len(parsed(unchunked(got))) > 20000


def test_a_cancelled_response_says_so_to_the_asker_and_to_every_reader(daemon):
    d = serve(daemon, echo(gap_ms=100))
    id = json.loads(post(d, "w " * 300, background=True)[2])["id"]
    c = http.client.HTTPConnection("127.0.0.1", port(d), timeout=DEADLINE)
    c.request("GET", f"/v1/responses/{id}?stream=true")
    reader = c.getresponse()
    reader.readline()
    status, _, text = ask(d, b"", "POST", f"/v1/responses/{id}/cancel")
    assert (status, json.loads(text)["status"]) == (200, "cancelled"), text
    assert reader.read().rstrip().split(b"\n")[-3] == b"event: response.cancelled"
    assert retrieve(d, id)["status"] == "cancelled"
    done = json.loads(post(d, "x", background=True)[2])["id"]
    finished(d, done)
    assert json.loads(ask(d, None, "POST", f"/v1/responses/{done}/cancel")[2])["status"] == "completed"
