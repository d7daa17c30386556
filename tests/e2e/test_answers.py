"""One prompt in, one answer out: by msgpack, by the command, by the C library."""

import json
import pathlib
import signal
import subprocess
import uuid

from conftest import BUILD, ECHO, MILLRACE, ROOT, check_sequence, echo, text_of, wait_for


def test_no_configuration_at_all_serves_the_socket(daemon):
    d = daemon()
    assert d.http() == d.status()["http"] and len(d.http()) == 1
    events = d.client().submit("r1", prompt="hello")
    assert events[0] == {"ev": "accepted", "id": "r1", "lane": events[0]["lane"]}
    assert events[-1]["ev"] == "done"
    assert "millrace index add" in text_of(events)  # extract without documents says how to add some


def test_echo_comes_back_byte_for_byte_in_pieces(daemon):
    c = daemon(ECHO).client()
    prompt = "  two  words\n\tand \"quotes\" \\ é € 😀\x7f end "
    events = c.submit("r1", prompt=prompt)
    assert text_of(events) == prompt
    assert len([e for e in events if e["ev"] == "delta"]) > 3
    assert check_sequence(events) == events[-1]["seq"]
    done = events[-1]
    assert done["finish_reason"] == "stop"
    assert set(done["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert done["usage"]["total_tokens"] == done["usage"]["prompt_tokens"] + done["usage"]["completion_tokens"]
    assert done["sources"] == [] and "rag" in done["timing_us"]


def test_stream_false_gives_one_delta_then_done(daemon):
    events = daemon(ECHO).client().submit("r1", prompt="a b c d", stream=False)
    kinds = [e["ev"] for e in events]
    assert kinds == ["accepted", "delta", "done"]
    assert events[1]["text"] == "a b c d" and check_sequence(events) == events[-1]["seq"]


def test_messages_and_bodies_are_understood(daemon):
    c = daemon(ECHO).client()
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "one"},
                {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}]
    assert text_of(c.submit("m1", messages=messages)) == "three"
    body = json.dumps({"model": "x", "messages": messages})
    assert text_of(c.submit("b1", body=body)) == "three"
    assert text_of(c.submit("b2", body=body.encode())) == "three"
    large = json.dumps({"messages": [{"role": "user", "content": "word " * 20000}]})
    assert text_of(c.submit("b3", body=large)) == "word " * 20000


def test_many_requests_share_a_connection(daemon):
    c = daemon(ECHO).client()
    ids = [str(uuid.uuid4()) for _ in range(100)]
    for i in ids:
        c.send(op="submit", id=i, prompt=f"answer for {i}")
    for i in ids:
        events = c.events(i)
        assert text_of(events) == f"answer for {i}" and events[-1]["ev"] == "done"
        check_sequence(events)


def test_documents_are_found_and_cited(daemon):
    d = daemon()
    page = pathlib.Path(d.directory, "gates.md")
    page.write_text("# Sluices\n\nThe sluice keeper closes the iron gate every evening at nine.\n\n"
                    "# Wheels\n\nAn overshot wheel takes its water from above.\n")
    added = d.cli("index", "add", "--index", d.index, str(page))
    assert added.returncode == 0, added.stderr

    def cited():
        events = d.client().submit(str(uuid.uuid4()), prompt="When is the iron gate closed by the keeper?")
        return events if events[-1].get("sources") else None

    events = wait_for("the daemon to see the index", cited)
    done = events[-1]
    assert "[1]" in text_of(events) and "nine" in text_of(events)
    source = next(s for s in done["sources"] if s["n"] == 1)
    assert source["cited"] is True and source["id"].endswith("gates.md")
    passage = page.read_bytes()[source["start"]:source["end"]].decode()
    assert "iron gate every evening" in passage
    result = d.cli("submit", "When is the iron gate closed by the keeper?")
    assert result.returncode == 0 and "nine" in result.stdout and "gates.md" in result.stderr
    for prompt in ("Who won the football match in Lisbon yesterday?", "zzyzx"):
        assert text_of(d.client().submit(str(uuid.uuid4()), prompt=prompt)) == "The answer is not in the documents."
    off = d.client().submit("off", prompt="When is the iron gate closed by the keeper?", rag=False)
    assert off[-1]["sources"] == []


def test_a_request_sees_what_it_may_and_what_it_asks_for(daemon):
    d = daemon()
    rows = [("gate-en", "en", "The iron gate closes at nine."), ("gate-de", "de", "The iron gate closes at ten.")]
    rows = "".join(json.dumps({"id": i, "text": t, "metadata": {"lang": m}}) + "\n" for i, m, t in rows)

    def add(*arguments, text=rows):
        path = pathlib.Path(d.directory, "rows.jsonl")
        path.write_text(text)
        result = d.cli("index", "add", "--index", d.index, *arguments, str(path))
        assert result.returncode == 0, result.stderr

    add()
    add("--collection", "notes", text='{"id":"note","text":"The iron gate is painted in spring."}\n')
    add("--tenant", "eve", text='{"id":"secret","text":"The iron gate opens with the word sesame."}\n')
    add("--tenant", "local", text='{"id":"own","text":"The iron gate squeaks."}\n')

    def sources(**fields):
        done = d.client().submit(str(uuid.uuid4()), prompt="What of the iron gate?", **fields)[-1]
        assert done["ev"] == "done", done
        return {s["id"] for s in done["sources"]}

    wait_for("the daemon to see the index", lambda: sources() == {"gate-en", "gate-de", "note", "own"})
    assert sources(rag_filter="lang=en") == {"gate-en"}
    assert sources(rag_filter="lang=en, lang=de") == {"gate-en", "gate-de"}
    assert sources(rag_collections="notes") == {"note"}
    assert sources(rag_collections="notes, default", rag_filter="lang=de") == {"gate-de"}
    assert sources(rag_collections="none") == set()
    refused = d.client().submit("bad", prompt="x", rag_filter="lang")[-1]
    assert refused["code"] == "invalid_request" and "rag_filter" in refused["message"]
    shown = d.cli("submit", "--rag-filter", "lang=de", "--rag-collections", "default", "What of the iron gate?")
    assert "gate-de" in shown.stderr and "gate-en" not in shown.stderr


def test_the_settings_limit_what_a_request_may_ask_for(daemon):
    d = daemon({"rag.collections": "[default]", "rag.filter": "[lang=en]"})
    rows = "".join(json.dumps({"id": m, "text": "The iron gate.", "metadata": {"lang": m}}) + "\n" for m in ("en", "de"))
    path = pathlib.Path(d.directory, "rows.jsonl")
    path.write_text(rows)
    for collection in ("default", "notes"):
        assert d.cli("index", "add", "--index", d.index, "--collection", collection, str(path)).returncode == 0

    def sources(**fields):
        return [s["id"] for s in d.client().submit(str(uuid.uuid4()), prompt="the iron gate", **fields)[-1]["sources"]]

    wait_for("the daemon to see the index", lambda: sources() == ["en"])
    assert sources(rag_filter="lang=de") == [] == sources(rag_collections="notes")


def test_earlier_turns_help_to_find_documents(daemon):
    d = daemon()
    path = pathlib.Path(d.directory, "rows.jsonl")
    path.write_text('{"id":"cake","text":"Cake bakes for one hour."}\n{"id":"bread","text":"Bread rises in the warm kitchen."}\n')
    assert d.cli("index", "add", "--index", d.index, str(path)).returncode == 0

    def sources(*turns):
        messages = [{"role": "user", "content": turn} for turn in turns]
        body = json.dumps({"messages": messages})
        events = [d.client().submit(str(uuid.uuid4()), **fields) for fields in ({"messages": messages}, {"body": body})]
        found = [[s["id"] for s in each[-1]["sources"]] for each in events]
        assert found[0] == found[1]
        return found[0]

    wait_for("the daemon to see the index", lambda: sources("cake"))
    assert sources("and how long?") == []
    assert sources("I bake a cake.", "and how long?") == ["cake"]


def test_submit_streams_json_events(daemon):
    d = daemon(ECHO)
    result = d.cli("submit", "--json", "--id", "j1", "one two")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [e["ev"] for e in events] == ["accepted", "delta", "delta", "done"]
    assert all(e["id"] == "j1" for e in events)


def test_submit_takes_options_and_files(daemon, tmp_path):
    d = daemon(ECHO)
    body = tmp_path / "request.json"
    body.write_text('{"messages":[{"role":"user","content":"from a file"}]}')
    assert d.cli("submit", "--request", str(body)).stdout == "from a file\n"
    assert d.cli("submit", "--session=s1", "--model", "m", "--priority", "bulk", "--deadline", "30000", "--rag", "off",
                 "--", "--text that looks like an option").stdout == "--text that looks like an option\n"
    assert d.cli("submit", "-s", d.socket, "x").stdout == "x\n"
    assert d.cli("submit", "--rag", "maybe", "x").returncode == 2
    assert d.cli("submit", "--deadline", "0", "x").returncode == 2
    assert d.cli("submit", "-s", d.socket + ".not", "x").returncode == 3


def test_ten_lines_of_c(daemon, tmp_path):
    d = daemon(ECHO)
    readme = (ROOT / "README.md").read_text()
    example = readme.split("```c\n", 1)[1].split("```", 1)[0]
    source = tmp_path / "ask.c"
    source.write_text(example)
    program = tmp_path / "ask"
    flags = subprocess.run(["pkg-config", "--libs", "msgpack"], capture_output=True, text=True).stdout.split()
    subprocess.run(["cc", f"-I{ROOT}/include", str(source), "-o", str(program), str(BUILD / "cli/libmillrace.a"), *flags],
                   check=True)
    result = subprocess.run([str(program), "from C"], env=d.env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.strip() == "from C"


def test_ten_lines_of_python(daemon):
    d = daemon(ECHO)
    readme = (ROOT / "README.md").read_text()
    example = readme.split("```python\n", 1)[1].split("```", 1)[0]
    result = subprocess.run(["/usr/bin/python3", "-c", example], env=d.env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.strip(), result.stderr


def test_idempotent_ids_never_run_twice(daemon):
    d = daemon(echo(gap_ms=20))
    a, b = d.client(), d.client()
    a.send(op="submit", id="same", prompt="one two three four")
    assert a.next()["ev"] == "accepted"
    second = b.submit("same", prompt="one two three four")
    first = a.events("same")
    assert text_of(first) == text_of(second) == "one two three four"
    again = d.client().submit("same", prompt="one two three four")
    assert text_of(again) == "one two three four" and check_sequence(again) == again[-1]["seq"]
    conflict = d.client().submit("same", prompt="something else")
    assert conflict[-1]["code"] == "id_conflict" and "seq" not in conflict[-1]
    assert d.status()["requests"]["admitted"] == 1


def test_attach_reads_from_anywhere(daemon):
    d = daemon(echo(gap_ms=10))
    c = d.client()
    full = c.submit("a1", prompt="a b c d e f g h")
    for after in range(0, full[-1]["seq"] + 1):
        reader = d.client()
        reader.send(op="attach", id="a1", after=after)
        if after == full[-1]["seq"]:
            reader.send(op="ping")
            assert reader.next()["ev"] == "pong"
            continue
        events = reader.events("a1")
        assert check_sequence(events, after) == full[-1]["seq"]
        assert all(e["ev"] != "accepted" for e in events)
    unknown = d.client()
    unknown.send(op="attach", id="nobody")
    assert unknown.next()["code"] == "not_found"


def test_result_tells_the_state_and_the_answer(daemon):
    d = daemon(echo(delay_ms=2000))
    c = d.client()
    c.send(op="submit", id="r", prompt="the answer")
    assert c.next()["ev"] == "accepted"
    c.send(op="result", id="r")
    running = c.wait(lambda e: e["ev"] == "result")
    assert running["status"] in ("queued", "running")
    c.events("r")
    c.send(op="result", id="r")
    done = c.wait(lambda e: e["ev"] == "result")
    assert done["status"] == "completed" and done["text"] == "the answer" and done["finish_reason"] == "stop"
    assert done["error"] is None
    assert d.cli("result", "r").stdout == "the answer\n"
    assert d.cli("result", "never").returncode == 1


def test_detach_answers_at_once_and_runs_on(daemon):
    d = daemon(echo(delay_ms=100))
    result = d.cli("submit", "--detach", "--id", "job", "later")
    assert result.returncode == 0 and result.stdout == "job\n"
    assert d.cli("result", "--wait", "job").stdout == "later\n"


def test_cancel_ends_it_for_every_reader(daemon):
    d = daemon(echo(gap_ms=60000))
    a, b = d.client(), d.client()
    a.send(op="submit", id="c", prompt="one two three four five six seven")
    a.next()
    b.send(op="attach", id="c")
    b.next()
    other = d.client()
    other.send(op="cancel", id="c")
    assert other.next() == {"ev": "cancelled", "id": "c"}
    for reader in (a, b):
        last = reader.events("c")[-1]
        assert last["ev"] == "error" and last["code"] == "cancelled" and last["status"] == 499 and last["seq"] > 0
    other.send(op="cancel", id="c")
    assert other.next() == {"ev": "cancelled", "id": "c"}
    assert wait_for("the count", lambda: d.status()["requests"]["cancelled"] == 1)


def test_a_deadline_ends_it(daemon):
    c = daemon(echo(gap_ms=500)).client()
    events = c.submit("d", prompt="one two three four five six", deadline_ms=200)
    assert events[-1]["code"] == "deadline_exceeded" and events[-1]["status"] == 504


def test_closing_the_sending_half_only_ends_the_requests(daemon):
    c = daemon(echo(gap_ms=20)).client()
    c.send(op="submit", id="h", prompt="one two three")
    c.socket.shutdown(1)
    assert text_of(c.events("h")) == "one two three"
    assert c.next() is None


def test_a_client_that_leaves_cancels_its_request(daemon):
    d = daemon(echo(gap_ms=100))
    c = d.client()
    c.send(op="submit", id="gone", prompt="w " * 500)
    c.next()
    c.close()
    assert wait_for("the cancel", lambda: d.status()["requests"]["cancelled"] == 1)


def test_interrupting_submit_cancels_the_request(daemon):
    d = daemon(echo(gap_ms=200))
    process = subprocess.Popen([MILLRACE, "submit", "--id", "int", "w " * 100], env=d.env, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdout.read(1)  # the answer has begun
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "cancelled" in err
    assert wait_for("the count", lambda: d.status()["requests"]["cancelled"] == 1)
