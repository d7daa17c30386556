"""What a backend is sent is the same bytes for the same request, static text first: prompt caches depend on it."""

import json
import os
import uuid

import pytest

from backend import Backend
from conftest import Daemon
from test_backend import PATIENT
from test_http import ask as ask_http

SYSTEM = {"type": "text", "text": "Be brief.\n", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
QUESTION = {"type": "text", "text": "Where does the millrace begin?", "cache_control": {"type": "ephemeral"}}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    templates = tmp_path_factory.mktemp("templates")
    (templates / "letter.mustache").write_text("Sources:\n{{#documents}}{{n}} {{text}}\n{{/documents}}Q: {{prompt}}")
    with Backend() as b:
        worker = {"name": "gpu", "kind": "openai", "base_url": b.url, "timeouts": PATIENT}
        d = Daemon({"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, "lanes": 2,
                    "assemble.templates": str(templates)})
        rows = "".join(json.dumps({"id": f"d{i}", "title": f"Weir {i}", "text": text}) + "\n" for i, text in enumerate((
            "The millrace begins above the weir.", "A weir holds the river back, and the millrace begins there.",
            "The tailrace ends below the mill.")))
        path = os.path.join(d.directory, "rows.jsonl")
        with open(path, "w") as f:
            f.write(rows)
        assert d.cli("index", "add", path, "--index", d.index).returncode == 0
        d.start()
        d.backend = b
        yield d
        d.finish()


def chat(d, **body):
    """The bytes that the backend got."""
    body = {"model": "m", "messages": [{"role": "user", "content": QUESTION["text"]}], **body}
    assert ask_http(d, json.dumps(body).encode())[0] == 200
    return d.backend.log()[-1]["body"]


def native(d, **frame):
    """Of another session each, so that both lanes are asked."""
    c = d.client()
    assert c.submit(str(uuid.uuid4()), session=str(uuid.uuid4()), **frame)[-1]["ev"] == "done"
    c.close()
    return d.backend.log()[-1]["body"]


def test_the_same_request_is_the_same_bytes_in_every_lane_and_every_process(daemon):
    frames = ({"prompt": QUESTION["text"], "system": "Be brief.", "params": {"temperature": 0, "seed": 7}},
              {"prompt": QUESTION["text"], "template": "letter", "model": "m"},
              {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": QUESTION["text"]}],
               "system": "Be brief."})
    first = [native(daemon, **frame) for frame in frames]
    assert all(b"millrace begins above the weir" in sent for sent in first), first
    for _ in range(4):
        assert [native(daemon, **frame) for frame in frames] == first
    for lane in (0, 1):
        for stage in ("assemble", "inference"):
            pid = daemon.kill(stage, lane)
            daemon.wait_ready(stage, lane, pid)
    for _ in range(4):
        assert [native(daemon, **frame) for frame in frames] == first


def test_what_never_changes_comes_first_and_the_question_last(daemon):
    def sent(question):
        return native(daemon, system="Be brief.", messages=[
            {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hello"}, {"role": "user", "content": question}])

    one, two = sent("where does the millrace begin?"), sent("where does the tailrace end?")
    same = os.path.commonprefix([one, two])
    assert same.index(b"Be brief.") < same.index(b"Be kind.") < same.index(b"Hello")
    last = json.loads(one)["messages"][-1]["content"]
    assert last.index("<documents>") < last.index("</documents>") and last.endswith("where does the millrace begin?")


def test_cache_control_and_the_cache_key_come_through_as_they_are(daemon):
    messages = [{"role": "system", "content": [SYSTEM]}, {"role": "user", "content": [QUESTION]}]
    sent = chat(daemon, messages=messages, prompt_cache_key="tenant-7", prompt_cache_retention="24h")
    assert b'"prompt_cache_key": "tenant-7"' in sent and b'"prompt_cache_retention": "24h"' in sent
    assert json.dumps(SYSTEM).encode() in sent and json.dumps(QUESTION).encode() in sent
    parts = json.loads(sent)["messages"][-1]["content"]
    assert len(parts) == 2 and "<documents>" in parts[0]["text"] and "cache_control" not in parts[0]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_first_message_takes_the_system_text_whatever_its_role(daemon, role):
    def roles(messages):
        sent = json.loads(native(daemon, system="House rules.", body=json.dumps({"messages": messages})))["messages"]
        return [message["role"] for message in sent], sent[0]["content"]

    user = {"role": "user", "content": "hi"}
    assert roles([{"role": role, "content": "Mine."}, user]) == ([role, "user"], "House rules.\n\nMine.")
    assert roles([user]) == (["system", "user"], "House rules.")
    talk = [user, {"role": "assistant", "content": "Hello"}, user]
    assert roles(talk)[0] == ["system", "user", "assistant", "user"]
