"""What users complained about in comparable systems, over HTTP: one test for each complaint, by its number in its name.

Those that stand elsewhere: C1 C2 C5 C6 C10 C14 C16 C17 C25 in test_http.py, C9 and C10 in test_responses.py, C12 in
test_backend.py, C21 in test_copies.py, C23 in test_detached.py.
"""

import json
import threading

from backend import SCENARIOS, answer_words
from conftest import wait_for
from test_http import PATIENT, answer, ask, backend, behind, body, connect, content, events, post, read_until, serve  # noqa: F401


def said(text):
    """What the backend answers."""
    return "".join(answer_words(text))


def spoken(told):
    status, _, text = told
    assert status == 200, text
    return json.loads(text)["choices"][0]["message"]["content"]


def at_once(d, texts, **more):
    """One client for each text, all at the same time: what they are told, in order."""
    answers = [None] * len(texts)

    def one(n):
        answers[n] = ask(d, body(texts[n], **more))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(texts))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


def all_together(d, backend, n):
    """n requests that the backend answers only while it has all of them: there are n places."""
    before = backend.asked("together")
    texts = [f"{i} @together {before + n}" for i in range(n)]
    assert [spoken(a) for a in at_once(d, texts)] == [said(t) for t in texts]


def idle(d):
    return wait_for("nothing in flight", lambda: (r := d.status()["requests"])["in_flight"] == 0 and r)


def leave_at(d, backend, scenario, mark=None, **more):
    """A client that asks and hangs up: once the backend has been asked, or `mark` has been read."""
    n = backend.asked(scenario)
    s = connect(d)
    s.sendall(post(body(f"x @{scenario}", **more)))
    if mark:
        read_until(s, mark)
    else:
        wait_for("the backend to be asked", lambda: backend.asked(scenario) > n)
    s.close()


def few(daemon, backend, places, **more):
    """At most so many requests at the backend at once."""
    worker = {"name": "gpu", "kind": "openai", "base_url": backend.url, "timeouts": PATIENT, "max_concurrency": places}
    return serve(daemon, {"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, "inference.retry.base_ms": 1,
                          "inference.retry.cap_ms": 1, "inference.breaker.failures": 1000, **more})


def test_c3_streams_that_were_left_and_a_storm_of_429_give_every_place_at_the_backend_back(daemon, backend):
    d = few(daemon, backend, 3)
    for _ in range(4):
        leave_at(d, backend, "stall_after_one", b'"content":"O"', stream=True)
        leave_at(d, backend, "stall_head", stream=True)
        leave_at(d, backend, "stall_before")
    storm = at_once(d, ["x @http_429", "x @http_503", "x @refuse"] * 8)
    assert {status for status, _, _ in storm} <= {429, 502, 503}, storm
    all_together(d, backend, 3)
    idle(d)


def test_c4_connections_that_were_left_are_free_for_others(daemon, backend):
    d = behind(daemon, backend, **{"http.max_connections": 6})
    for _ in range(6):  # three times as many as there may be
        leave_at(d, backend, "stall_after_one", b'"content":"O"', stream=True)
        leave_at(d, backend, "stall_head", stream=True)
        leave_at(d, backend, "stall_before")
        wait_for("the connections", lambda: d.status()["gateways"][0]["connections"] == 0)
    assert wait_for("their ends", lambda: {e["ended"] for e in backend.log() if e["scenario"].startswith("stall")} == {"client"})
    all_together(d, backend, 6)
    idle(d)


def test_c7_one_stuck_stream_takes_one_place_also_after_the_gateway_was_killed(daemon, backend):
    d = behind(daemon, backend, **{"admission.max_in_flight": 4, "stream.on_disconnect": "detach"})
    s = connect(d)
    s.sendall(post(body("x @stall_after_one", stream=True), "Idempotency-Key: stuck\r\n"))
    read_until(s, b'"content":"O"')
    for round in range(2):
        for n in range(8):
            assert spoken(ask(d, body(f"fine {n}"))) == said(f"fine {n}")
        all_together(d, backend, 3)
        assert wait_for("the count", lambda: d.status()["requests"]["in_flight"] == 1)
        if round == 0:
            d.wait_ready("gateway", 0, d.kill("gateway"))
    c = d.client()
    c.send(op="cancel", id="stuck")
    assert c.next()["ev"] == "cancelled"
    idle(d)


def test_c8_a_place_is_given_back_however_a_request_ends(daemon, backend):
    d = behind(daemon, backend, **{"admission.max_in_flight": 2, "admission.max_body_bytes": 65536,
                                   "admission.max_response_bytes": 65536})
    ends = [("x @http_500", 502), ("x @http_400", 400), ("x @http_429", 429), ("x @cut", 502), ("x @error_first", 503),
            ("x @refuse", 502), ("x @html", 502), ("x @long", 413), ("fine", 200)]
    for text, status in ends:
        for _ in range(3):  # more than there are places
            assert ask(d, body(text))[0] == status, text
    for _ in range(3):
        assert ask(d, body("x @stall_head"), x_millrace_deadline_ms="20")[0] == 504
        assert ask(d, body("x" * 70000))[0] == 413
        assert ask(d, b"{")[0] == 400
        assert ask(d, body("same"), Idempotency_Key="k")[0] == 200  # the second time it is there already
        assert ask(d, body("other"), Idempotency_Key="k")[0] == 409
        leave_at(d, backend, "stall_before")
    all_together(d, backend, 2)
    r = idle(d)
    assert r["admitted"] == r["completed"] + r["failed"] + r["cancelled"]
    assert (r["completed"], r["cancelled"]) == (3 + 1 + 2, 3)


def test_c9_frames_without_content_do_not_keep_the_next_backend_from_answering(daemon, backend, monkeypatch):
    def lifecycle(x):
        x.head()
        x.delta({"role": "assistant", "content": ""})
        if x.request["model"] == "bad":
            x.raw(b"0\r\n\r\n")
            return None
        return x.words() or x.delta({}, "stop") or x.done()

    monkeypatch.setitem(SCENARIOS, "lifecycle", lifecycle)
    workers = [{"name": n, "kind": "openai", "base_url": backend.url, "timeouts": PATIENT, "model": n} for n in ("bad", "good")]
    d = serve(daemon, {"inference.workers": workers, "inference.models": {"*": ["bad", "good"]}, "inference.retry.base_ms": 1})
    assert spoken(ask(d, body("x @lifecycle"))) == said("x @lifecycle")
    chunks = [json.loads(e) for e in events(ask(d, body("x @lifecycle", stream=True))[2])[:-1]]
    assert content(chunks) == said("x @lifecycle")
    assert sum("role" in choice["delta"] for chunk in chunks for choice in chunk["choices"]) == 1


def test_c11_answers_that_break_in_their_middle_open_the_breaker(daemon, backend):
    d = behind(daemon, backend, **{"inference.breaker.failures": 3, "inference.breaker.open_ms": 600000})
    for _ in range(3):
        assert json.loads(events(ask_broken(d, "x @cut"))[-1])["error"]["code"] == "upstream_error"
    n = len(backend.log())
    status, headers, _ = ask(d, body("fine"))
    assert status == 502 and headers["Retry-After"] and len(backend.log()) == n  # nobody was asked


def ask_broken(d, text):
    """A stream that ends without its last chunk."""
    with connect(d) as s:
        s.sendall(post(body(text, stream=True)))
        got = b""
        while data := s.recv(65536):
            got += data
    return got


def test_c13_a_backend_that_says_nothing_holds_up_nobody_at_another_one(daemon, backend):
    workers = [{"name": n, "kind": "openai", "base_url": backend.url, "timeouts": PATIENT, "max_concurrency": 4, "model": m}
               for n, m in (("mute", "stall_before"), ("well", "normal"))]
    d = serve(daemon, {"inference.workers": workers, "inference.models": {"mute": ["mute"], "well": ["well"]},
                       "admission.max_in_flight": 64})
    mute = [connect(d) for _ in range(32)]  # four are asked, the rest waits for a place there
    for s in mute:
        s.sendall(post(body("x", model="mute")))
    wait_for("the backend to be asked", lambda: d.status()["requests"]["in_flight"] == 32)
    for n in range(10):
        assert spoken(ask(d, body(f"fine {n}", model="well"))) == said(f"fine {n}")
    for s in mute:
        s.close()
    idle(d)


def test_c18_what_may_be_in_flight_is_counted_over_all_gateways(daemon, backend):
    d = behind(daemon, backend, gateways=3, **{"admission.max_in_flight": 4, "admission.queue_timeout_ms": 600000})
    clients = []
    for _ in range(24):  # one after the other, so that gateways take them in turns
        s = connect(d)
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer(s)[0] == 200
        clients.append(s)
    assert all(g["connections"] > 0 for g in d.status()["gateways"])
    for s in clients:
        s.sendall(post(body("x @stall_before")))
    wait_for("the backend to be asked", lambda: backend.log()[-1]["scenario"] == "stall_before" and d.status()["requests"]["in_flight"] == 4)
    for n in range(24, 4, -1):  # as soon as one leaves another one takes its place, and never two
        clients.pop().close()
        assert wait_for("four", lambda: d.status()["requests"]["in_flight"] == 4), n
    for s in clients:
        s.close()
    idle(d)


def test_c20_as_many_requests_are_at_the_backend_as_clients_ask(daemon, backend):
    d = few(daemon, backend, 128)
    all_together(d, backend, 100)


def test_c22_a_reload_leaves_the_connections_of_answers_under_way_alone(daemon, backend, monkeypatch):
    go = threading.Event()

    def waits(x):
        x.head()
        x.delta({"content": "first "})
        while not go.is_set() and not x.backend.stopping:
            x.sleep(0.05)
        x.delta({"content": "last"})
        x.delta({}, "stop")
        return x.done()

    monkeypatch.setitem(SCENARIOS, "waits", waits)
    config = ("inference: {{ workers: [{{ name: gpu, kind: openai, base_url: '{url}', max_concurrency: {n} }}], "
              "models: {{ '*': [gpu] }} }}\n")
    d = daemon({"lanes": 1}, config=config.format(url=backend.url, n=8))
    streams = [connect(d) for _ in range(3)]
    for s in streams:
        s.sendall(post(body("x @waits", stream=True)))
        read_until(s, b'"content":"first "')
    with open(f"{d.directory}/millrace.yaml", "w") as f:
        f.write(config.format(url=backend.url, n=9))
    codes = []
    reload = threading.Thread(target=lambda: codes.append(d.cli("reload").returncode))
    reload.start()
    wait_for("inference to be asked to leave", lambda: d.place("inference")["state"] == "draining")
    go.set()
    for s in streams:
        got = read_until(s, b"[DONE]\n\n")
        assert content([json.loads(e) for e in events(got)[:-1]]) == "last"  # what came before has been read
    reload.join()
    assert codes == [0] and d.place("inference")["restarts"] == 1
    assert spoken(ask(d, body("fine"))) == said("fine")
