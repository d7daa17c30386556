"""Sessions: the turns that a named session has had stand before its next question; kept per tenant, dropped, expired."""

import json
import os
import sqlite3
import subprocess
import uuid

import pytest

from backend import Backend
from conftest import MILLRACE, Daemon, text_of, wait_for
from test_backend import PATIENT
from test_http import ask as ask_http

FAULTS = "faults: on" in subprocess.run([MILLRACE, "--version"], capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def backend():
    with Backend() as b:
        yield b


def settings(backend, **more):
    worker = {"name": "gpu", "kind": "openai", "base_url": backend.url, "timeouts": PATIENT}
    return {"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, "lanes": 2,
            "sessions.history_turns": 4, **more}


@pytest.fixture(scope="module")
def shared(backend):
    d = Daemon(settings(backend)).start()
    yield d
    d.finish()


def name():
    return f"s-{uuid.uuid4()}"


def ask(d, session=None, client=None, **frame):
    client = client or d.client()
    more = {"session": session} if session else {}
    events = client.submit(str(uuid.uuid4()), rag=False, **more, **frame)
    assert events[-1]["ev"] == "done", events[-1]
    return text_of(events)


def sent(backend):
    return json.loads(backend.log()[-1]["body"])


def said(backend):
    return [(m["role"], m["content"]) for m in sent(backend)["messages"]]


def sessions(d, *arguments):
    return d.cli("sessions", *arguments, "--database", os.path.join(d.directory, f"{d.instance}.db"))


def turn(question):
    return [("user", question), ("assistant", f"You said: {question}")]


def test_the_next_turn_sees_the_last_ones_and_other_sessions_do_not(shared, backend):
    session, client = name(), shared.client()
    for n in range(3):
        assert ask(shared, session, client, prompt=f'q{n} "x"\n') == f'You said: q{n} "x"\n'
        assert said(backend) == [m for k in range(n) for m in turn(f'q{k} "x"\n')] + [("user", f'q{n} "x"\n')]
    ask(shared, name(), client, prompt="elsewhere")
    assert said(backend) == [("user", "elsewhere")]
    ask(shared, None, client, prompt="nowhere")
    assert said(backend) == [("user", "nowhere")]


def test_a_client_that_keeps_its_own_history_is_given_no_second_one(shared, backend):
    session, client = name(), shared.client()
    ask(shared, session, client, prompt="first")
    own = [{"role": "user", "content": "mine"}, {"role": "assistant", "content": "yours"},
           {"role": "user", "content": "next"}]
    ask(shared, session, client, messages=own)
    assert sent(backend)["messages"] == own
    ask(shared, session, client, messages=[own[0], own[2]])
    assert sent(backend)["messages"] == [own[0], own[2]]
    ask(shared, session, client, prompt="last")
    assert said(backend) == turn("first") + [("user", "last")]


def test_the_header_names_a_session_and_a_body_only_its_lane(shared, backend):
    session = name()

    def post(question, body=None, **headers):
        body = {"model": "m", "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": question}],
                **(body or {})}
        assert ask_http(shared, json.dumps(body).encode(), **headers)[0] == 200
        return said(backend)

    post("one", **{"x-millrace-session": session})
    assert post("two", **{"x-millrace-session": session}) == [("system", "S")] + turn("one") + [("user", "two")]
    assert post("three", {"user": session, "prompt_cache_key": session}) == [("system", "S"), ("user", "three")]


def test_old_turns_go_in_blocks_of_whole_turns(backend, daemon):
    d = daemon(settings(backend, lanes=1, **{"sessions.history_turns": 8}))
    client, firsts = d.client(), []
    for n in range(16):
        ask(d, "s", client, prompt=f"q{n}")
        firsts.append(said(backend)[0][1])
        assert len(said(backend)) <= 17 and said(backend)[-1] == ("user", f"q{n}")
    assert firsts == ["q0"] * 9 + ["q2"] * 2 + ["q4"] * 2 + ["q6"] * 2 + ["q8"]


def test_calls_of_tools_stay_with_their_results(shared, backend):
    session, client = name(), shared.client()
    ask(shared, session, client, prompt="before")
    ask(shared, session, client, model="tools", prompt="call")
    ask(shared, session, client, messages=[{"role": "tool", "tool_call_id": "call_1", "content": "42"}])
    messages = sent(backend)["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant", "tool"]
    assert messages[3]["tool_calls"][0]["id"] and messages[3]["tool_calls"][0]["function"]["name"]
    ask(shared, session, client, prompt="after")
    assert [m["role"] for m in sent(backend)["messages"]] == [
        "user", "assistant", "user", "assistant", "tool", "assistant", "user"]
    shown = json.loads(sessions(shared, "show", session, "--json").stdout)
    assert shown["turns"] == 3 and len(shown["messages"]) == 8, shown


def test_a_failed_request_is_no_turn(shared, backend):
    session, client = name(), shared.client()
    events = client.submit(str(uuid.uuid4()), session=session, prompt="x", model="http_400", rag=False)
    assert events[-1]["ev"] == "error"
    ask(shared, session, client, prompt="y")
    assert said(backend) == [("user", "y")]


def test_the_command_lists_shows_and_drops(shared, backend):
    mine, other, client = name(), name(), shared.client()
    ask(shared, mine, client, prompt="one")
    ask(shared, mine, client, prompt="two")
    ask(shared, other, client, prompt="else")
    rows = [json.loads(line) for line in sessions(shared, "list", "--json").stdout.splitlines()]
    assert [(r["session"], r["tenant"], r["turns"]) for r in rows[-2:]] == [(mine, "local", 2), (other, "local", 1)]
    assert mine in sessions(shared, "list").stdout
    shown = json.loads(sessions(shared, "show", mine, "--json").stdout)
    assert [(m["role"], m["content"]) for m in shown["messages"]] == turn("one") + turn("two")
    assert "You said: two" in sessions(shared, "show", mine).stdout
    for refused, code in ((("show", "nobody"), 1), (("show",), 2), (("drop",), 2), (("drop", "nobody"), 1),
                          (("list", "x"), 2), (("forget", "x"), 2), (("show", mine, "--tenant", "uid:1"), 1)):
        result = sessions(shared, *refused)
        assert result.returncode == code and result.stderr, (refused, result)
    assert sessions(shared, "drop", mine, "--json").stdout == '{"dropped":1}\n'
    ask(shared, mine, client, prompt="three")
    assert said(backend) == [("user", "three")]
    ask(shared, other, client, prompt="four")
    assert said(backend) == turn("else") + [("user", "four")]


def test_sessions_survive_the_daemon_and_expire(backend, daemon):
    d = daemon(settings(backend, lanes=1))
    ask(d, "kept", prompt="one")
    with sqlite3.connect(os.path.join(d.directory, f"{d.instance}.db")) as db:
        tables = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE name IN ('sessions', 'exchanges')")]
    assert d.stop() == 0 and len(tables) == 2
    d.start()
    ask(d, "kept", prompt="two")
    assert said(backend) == turn("one") + [("user", "two")]
    assert d.stop() == 0
    with sqlite3.connect(os.path.join(d.directory, f"{d.instance}.db")) as db:
        db.execute("UPDATE sessions SET last_ms = last_ms - 86400001")
    d.start()
    ask(d, "kept", prompt="three")
    assert said(backend) == [("user", "three")]
    assert json.loads(sessions(d, "show", "kept", "--json").stdout)["turns"] == 1


def test_another_tenant_neither_sees_nor_extends_a_session(shared, backend):
    session, client = name(), shared.client()
    ask(shared, session, client, prompt="mine")
    path = os.path.join(shared.directory, f"{shared.instance}.db")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE sessions SET tenant = 'uid:1' WHERE name = ?", (session,))
    ask(shared, session, client, prompt="yours")
    assert said(backend) == [("user", "yours")]
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT tenant, turns FROM sessions WHERE name = ? ORDER BY tenant", (session,)).fetchall()
    assert rows == [("local", 1), ("uid:1", 1)]
    result = sessions(shared, "show", session)
    assert result.returncode == 2 and "--tenant" in result.stderr
    assert "mine" in sessions(shared, "show", session, "--tenant", "uid:1").stdout


@pytest.mark.skipif(not FAULTS, reason="built without -Dfaults=true")
@pytest.mark.parametrize("fault", ["stream:after_commit:exit", "stream:in_transaction:exit",
                                   "stream:after_transaction:exit", "assemble:on_record:exit"])
@pytest.mark.parametrize("detach", [False, True], ids=["attached", "detached"])
def test_a_death_between_answer_and_commit_loses_no_turn(backend, daemon, fault, detach):
    d = daemon(settings(backend, lanes=1), env={"MILLRACE_FAULT": f"{fault}:count=1"})
    client = d.client()
    for n in range(3):
        id = str(uuid.uuid4())
        client.send(op="submit", id=id, session="s", prompt=f"q{n}", rag=False, detach=detach)
        if detach:
            client.send(op="attach", id=id)
        assert client.events(id)[-1]["ev"] == "done"
        assert said(backend) == [m for k in range(n) for m in turn(f"q{k}")] + [("user", f"q{n}")]


def test_without_a_database_that_can_be_read_prompts_go_without_history(backend, daemon):
    d = daemon(settings(backend, lanes=1))
    ask(d, "s", prompt="one")
    path = os.path.join(d.directory, f"{d.instance}.db")
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE exchanges RENAME TO elsewhere")
    ask(d, "s", prompt="two")
    assert said(backend) == [("user", "two")]
    wait_for("the line", lambda: "ev=history_missed" in d.log())
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE elsewhere RENAME TO exchanges")
    ask(d, "s", prompt="three")
    assert said(backend)[0] == ("user", "one")


def test_templates_may_place_the_history_themselves(backend, daemon, tmp_path):
    (tmp_path / "told.mustache").write_text("{{#history}}{{role}}: {{content}}\n{{/history}}>{{prompt}}")
    d = daemon(settings(backend, lanes=1, **{"assemble.templates": str(tmp_path)}))
    ask(d, "s", prompt="one")
    ask(d, "s", prompt="two", template="told")
    assert said(backend) == [("user", "user: one\nassistant: You said: one\n>two")]
    ask(d, "s", prompt="three")
    assert said(backend)[2] == ("user", "two") and len(said(backend)) == 5
