"""`millrace redact`: the engine of the post stage over standard input, whole and in pieces."""

import json
import os
import re
import subprocess
import threading

import pytest

from backend import SCENARIOS, Backend
from conftest import DEADLINE, ECHO, MILLRACE, ROOT, check_sequence, echo, text_of
from test_backend import PATIENT

TEXT = "Mail jürgen@example.com, card 4012-8888-8888-1881.\n\nssn 536-90-4399 from 10.0.0.1"


def redact(*arguments, text=TEXT, code=0, env=None):
    result = subprocess.run([MILLRACE, "redact", *map(str, arguments)], input=text.encode(), capture_output=True,
                            timeout=DEADLINE * 2, env={**os.environ, **(env or {})})
    assert result.returncode == code, result.stderr
    return result.stdout.decode()


def answers(*arguments, **options):
    return [json.loads(line) for line in redact("--json", *arguments, **options).splitlines()]


# ---- refusals ------------------------------------------------------------------------------------

def test_a_row_that_is_none_is_named_and_what_came_before_is_answered():
    rows = '{"text":"a@example.com"}\n{"txt":"x"}\n'
    assert redact("--jsonl", text=rows, code=1) == '{"text":"<EMAIL_ADDRESS>"}\n'
    redact("--jsonl", text="no row\n", code=1)


def test_rules_that_are_wrong_are_named_with_file_and_line(tmp_path):
    rules = tmp_path / "own.rules"
    rules.write_text("word NAME Ada\npattern BAD 0.5 (a+)+$b\n")
    result = subprocess.run([MILLRACE, "redact", "--rules", rules], input=b"x", capture_output=True)
    assert result.returncode == 2 and f"{rules}:2: the pattern needs too many steps" in result.stderr.decode()


def test_a_configuration_that_is_wrong_is_exit_2(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("post: { redact: { action: hide } }\n")
    redact("-c", path, code=2)
    path.write_text("post: { redact: { entities: [EMAIL] } }\n")
    redact("-c", path, code=2)
    path.write_text("post: { redact: { entities: [all], action: hash } }\n")
    redact("-c", path, code=2)
    path.write_text("post: { redact: { entities: [all], action: hash, key_env: NOT_SET_ANYWHERE } }\n")
    redact("-c", path, code=2)


# ---- one text ------------------------------------------------------------------------------------

def test_text_goes_through_with_entities_in_their_places():
    assert redact() == "Mail <EMAIL_ADDRESS>, card <CREDIT_CARD>.\n\nssn <US_SSN> from <IP_ADDRESS>"
    assert redact("--entities", "US_SSN,IP_ADDRESS") == TEXT.replace("536-90-4399", "<US_SSN>").replace("10.0.0.1", "<IP_ADDRESS>")
    assert redact("--min-score", "0.9", "--entities", "IP_ADDRESS") == TEXT
    assert redact(text="") == ""


def test_entities_have_byte_offsets_into_the_input():
    answer, = answers()
    assert set(answer) == {"text", "entities"}
    for e in answer["entities"]:
        assert set(e) == {"type", "start", "end", "score", "text_in"}
        assert TEXT.encode()[e["start"]:e["end"]].decode() == e["text_in"]
    ends = [0] + [e["end"] for e in answer["entities"]]
    assert all(e["start"] >= end for e, end in zip(answer["entities"], ends))
    assert [e["type"] for e in answer["entities"]] == ["EMAIL_ADDRESS", "CREDIT_CARD", "US_SSN", "IP_ADDRESS"]


def test_each_action():
    one = "a@b.com 10.0.0.1 a@b.com"
    assert redact("--action", "mask", text=one) == "*@*.*** **.*.*.* *@*.***"
    assert redact("--action", "drop", text=one) == "  "
    assert redact("--numbered", text=one) == "<EMAIL_ADDRESS_1> <IP_ADDRESS_1> <EMAIL_ADDRESS_1>"
    assert redact("--action", "block", text=one, code=1) == "<EMAIL_ADDRESS>"
    keyed = [redact("--action", "hash", text=one, env={"MILLRACE_REDACT_KEY": key}) for key in ("k", "k", "other")]
    assert keyed[0] == keyed[1] != keyed[2]
    first, _, last = re.findall(r"<\w+:[0-9a-f]{16}>", keyed[0])
    assert first == last


def test_bytes_that_are_no_utf8_go_through_as_they_are():
    raw = b"\xff\xfe a@example.com \x80"
    result = subprocess.run([MILLRACE, "redact"], input=raw, capture_output=True)
    assert result.stdout == raw.replace(b"a@example.com", b"<EMAIL_ADDRESS>")
    result = subprocess.run([MILLRACE, "redact", "--json"], input=raw, capture_output=True)
    entity, = json.loads(result.stdout)["entities"]
    assert raw[entity["start"]:entity["end"]] == b"a@example.com"


# ---- many texts ----------------------------------------------------------------------------------

def test_lines_are_texts_of_their_own_and_empty_ones_are_answered():
    assert redact("--lines", text="a@b.com\n\nssn\n536904399\n") == "<EMAIL_ADDRESS>\n\nssn\n536904399\n"
    assert redact("--lines", text="x\r\nlast") == "x\r\nlast"
    assert [a["text"] for a in answers("--lines", text="\n\nx\n")] == ["", "", "x"]
    assert answers("--lines", text="") == []


def test_rows_are_texts_of_their_own():
    texts = ["a@b.com\nIP 10.0.0.1", "", "\x01 ü"]
    rows = "".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in enumerate(texts))
    assert [a["text"] for a in answers("--jsonl", text=rows)] == ["<EMAIL_ADDRESS>\nIP <IP_ADDRESS>", "", "\x01 ü"]


def test_a_configuration_says_what_is_done_and_options_win(tmp_path):
    rules = tmp_path / "own.rules"
    rules.write_text("word PROJECT Bluebird\nallow root@example.com\n")
    path = tmp_path / "c.yaml"
    path.write_text(f"post: {{ redact: {{ entities: [EMAIL_ADDRESS], rules: {rules}, actions: [PROJECT=drop], numbered: true }} }}\n")
    text = "bluebird root@example.com a@b.com 10.0.0.1"
    assert redact("-c", path, text=text) == " root@example.com <EMAIL_ADDRESS_1> 10.0.0.1"
    assert redact("-c", path, "--entities", "IP_ADDRESS", "--action", "mask", text=text) == " root@example.com a@b.com **.*.*.*"


# ---- streams -------------------------------------------------------------------------------------

@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_a_stream_gives_what_the_whole_gives(step):
    for mode in ((), ("--lines",), ("--json",), ("--numbered",), ("--lines", "--json")):
        assert redact("--stream", step, *mode) == redact(*mode)
    rows = json.dumps({"text": TEXT}) + "\n"
    assert redact("--stream", step, "--jsonl", text=rows) == redact("--jsonl", text=rows)


def test_settled_text_is_written_before_more_is_read():
    p = subprocess.Popen([MILLRACE, "redact", "--stream", "64"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        p.stdin.write(b"write to jane.doe")
        p.stdin.flush()
        assert os.read(p.stdout.fileno(), 100) == b"write to "
        p.stdin.write(b"@example.com, she")
        p.stdin.flush()
        assert os.read(p.stdout.fileno(), 100) == b"<EMAIL_ADDRESS>, "
        out, _ = p.communicate(timeout=DEADLINE)
        assert out == b"she" and p.returncode == 0
    finally:
        p.kill()


# ---- documents -----------------------------------------------------------------------------------

def test_the_page_has_the_table_that_the_command_prints():
    assert redact("--list") in (ROOT / "docs" / "redaction.md").read_text(), "write it anew: millrace redact --list"


# ---- the post stage ------------------------------------------------------------------------------

CORE = {"post.redact.entities": ["core"]}


def test_answers_are_redacted_and_counted(daemon):
    c = daemon({**ECHO, **CORE}).client()
    events = c.submit("r1", prompt="mail a@example.com and bob@example.org from 10.0.0.1, in the end")
    assert text_of(events) == "mail <EMAIL_ADDRESS> and <EMAIL_ADDRESS> from <IP_ADDRESS>, in the end"
    assert events[-1]["redactions"] == {"EMAIL_ADDRESS": 2, "IP_ADDRESS": 1}
    check_sequence(events)
    assert "redactions" not in c.submit("r2", prompt="nothing of the kind")[-1]
    assert text_of(c.submit("r3", prompt="it ends with a@example.com")) == "it ends with <EMAIL_ADDRESS>"
    assert text_of(c.submit("r4", prompt="word " * 20000 + "a@example.com")) == "word " * 20000 + "<EMAIL_ADDRESS>"


def test_a_find_that_blocks_ends_the_answer_as_filtered(daemon):
    c = daemon({**ECHO, **CORE, "post.redact.actions": ["US_SSN=block"]}).client()
    events = c.submit("r1", prompt="fine so far, ssn 536-90-4399, and this is not said")
    assert text_of(events) == "fine so far, ssn <US_SSN>"
    assert events[-1]["ev"] == "done" and events[-1]["finish_reason"] == "content_filter"
    assert events[-1]["redactions"] == {"US_SSN": 1}
    assert text_of(c.submit("r2", prompt="the next one")) == "the next one"


def test_what_crosses_a_kill_of_post_is_redacted_all_the_same(daemon):
    """A find whose first half came before the kill and whose second half after it."""
    d = daemon(echo(gap_ms=100, **CORE))
    c = d.client()
    c.send(op="submit", id="r1", prompt="the card 4012 8888 8888 1881 and ssn 536-90-4399 from 10.0.0.1 today")
    lane = c.wait(lambda e: e["ev"] == "accepted")["lane"]
    first = c.wait(lambda e: e["ev"] == "delta")
    d.kill("post", lane)
    events = [first] + c.events("r1")
    assert text_of(events) == "the card <CREDIT_CARD> and ssn <US_SSN> from <IP_ADDRESS> today"
    assert events[-1]["redactions"] == {"CREDIT_CARD": 1, "US_SSN": 1, "IP_ADDRESS": 1}
    check_sequence(events)


def test_rules_that_are_wrong_are_refused_before_anything_runs(daemon, tmp_path):
    rules = tmp_path / "own.rules"
    rules.write_text("pattern BAD 0.5 (a+)+$b\n")
    result = subprocess.run([MILLRACE, "config", "--set", f"post.redact.rules={rules}"], capture_output=True, text=True)
    assert result.returncode == 2 and f"{rules}:1: the pattern needs too many steps" in result.stderr


def private(x):
    """A find cut in two in each stream of an answer: texts of two choices, reasoning, a tool call's arguments."""
    x.head()
    x.delta({"role": "assistant", "reasoning_content": "she is jane.do"})
    x.delta({"reasoning_content": "e@example.com"})
    for piece in ("mail jane", ".doe@exam", "ple.com"):
        for index in (0, 1):
            x.delta({"content": piece}, index=index, choice={"logprobs": {"content": [{"token": piece}]}})
    x.delta({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "mail", "arguments": ""}}]})
    for piece in ('{"to":"jane\\u00', '40example', '.com","card":401288', '8888881881,"n":12}'):
        x.delta({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    for index in (0, 1):
        x.delta({}, "stop", index=index)
    x.usage()
    return x.done()


@pytest.fixture
def behind(daemon, monkeypatch):
    monkeypatch.setitem(SCENARIOS, "private", private)
    with Backend() as backend:
        worker = {"name": "gpu", "kind": "openai", "base_url": backend.url}
        yield lambda **more: daemon({"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, **CORE, **more})


def test_every_stream_of_an_answer_is_redacted_apart(behind):
    events = behind().client().submit("r1", prompt="x @private", rag=False)
    for choice in (0, 1):
        text = "".join(e["text"] for e in events if e.get("text") and e.get("choice", 0) == choice and "kind" not in e)
        assert text == "mail <EMAIL_ADDRESS>"
    assert "".join(e["text"] for e in events if e.get("kind") == "reasoning") == "she is <EMAIL_ADDRESS>"
    calls = [e["tool"] for e in events if e.get("tool")]
    assert calls[0]["id"] == "call_1" and calls[0]["name"] == "mail"
    arguments = json.loads("".join(c.get("arguments") or "" for c in calls))
    assert arguments == {"to": "<EMAIL_ADDRESS>", "card": "<CREDIT_CARD>", "n": 12}
    assert events[-1]["redactions"] == {"EMAIL_ADDRESS": 4, "CREDIT_CARD": 1}
    assert "jane" not in json.dumps(events) and "logprobs" not in json.dumps(events)
    check_sequence(events)


def test_a_find_that_blocks_closes_the_backend(behind):
    d = behind(**{"post.redact.actions": ["EMAIL_ADDRESS=block"]})
    events = d.client().submit("r1", prompt="x @private", rag=False)
    assert events[-1]["finish_reason"] == "content_filter" and events[-1]["redactions"] == {"EMAIL_ADDRESS": 1}
    assert "jane" not in json.dumps(events)


def odd(x):
    """Members of its own everywhere, some of which say what must not be said."""
    x.head()
    x.delta({"content": "hi ", "note": {"to": "jane@example.com"}}, choice={"logprobs": {"content": [{"token": "jane@"}]}}, served_by="10.0.0.1")
    x.delta({"reasoning_details": [{"type": "reasoning.text", "text": "jane@example.com"}]})
    x.delta({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "mail", "arguments": "{}"},
                             "about": "jane@example.com", "sign": "c2ln"}]})
    x.delta({"content": "there"})
    x.delta({}, "tool_calls", choice={"stop_reason": 7})
    return x.done()


def test_members_that_millrace_does_not_know_are_redacted_too(behind, monkeypatch):
    monkeypatch.setitem(SCENARIOS, "odd", odd)
    events = behind().client().submit("r1", prompt="x @odd", rag=False)
    said = json.dumps(events)
    assert "jane" not in said and "10.0.0.1" not in said and "logprobs" not in said and "reasoning_details" not in said
    assert {"index": 0, "id": "call_1", "name": "mail", "arguments": "{}", "extra": {"about": "<EMAIL_ADDRESS>", "sign": "c2ln"}} in \
        [{**e["tool"], "extra": json.loads(e["tool"]["extra"]) if isinstance(e["tool"].get("extra"), str) else e["tool"].get("extra")}
         for e in events if e.get("tool")]
    assert '"served_by"' in said.replace("\\", "") and '"stop_reason"' in said.replace("\\", "")
    assert text_of(events) == "hi there"
    assert events[-1]["redactions"] == {"EMAIL_ADDRESS": 2, "IP_ADDRESS": 1}


def test_what_waits_and_finds_no_room_is_dropped_with_an_error(daemon, monkeypatch):
    """Sixteen choices each, of a key that does not end: so many at once are more than the stage can keep."""
    go_on, key = threading.Event(), "-----BEGIN PRIVATE KEY-----\n" + "MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPfMIIBOgIBAAJBAKj34Gkx\n" * 58

    def hoard(x):
        x.head()
        for index in range(16):
            x.delta({"content": "see " + key}, index=index)
        go_on.wait(DEADLINE)
        for index in range(16):
            x.delta({}, "stop", index=index)
        return x.done()

    monkeypatch.setitem(SCENARIOS, "hoard", hoard)
    with Backend() as backend:
        worker = {"name": "gpu", "kind": "openai", "base_url": backend.url, "timeouts": PATIENT}
        d = daemon({"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, "lanes": 1,
                    "post.redact.entities": ["PRIVATE_KEY"]})
        c = d.client()
        ids = [f"r{n}" for n in range(24)]
        for id in ids:
            c.send(op="submit", id=id, prompt="x @hoard", rag=False)
        seen = []
        while sum(e["ev"] in ("done", "error") for e in seen) < len(ids):
            seen.append(c.next())
            if seen[-1]["ev"] == "error":
                go_on.set()
        ends = [e for e in seen if e["ev"] in ("done", "error")]
        assert {e.get("code", "done") for e in ends} == {"done", "too_large"}
        assert "MII" not in json.dumps(seen)
        whole = next(e["id"] for e in ends if e["ev"] == "done")
        for index in range(16):
            text = "".join(e["text"] for e in seen if e["id"] == whole and e.get("text") and e.get("choice", 0) == index)
            assert text == "see <PRIVATE_KEY>\n"
