"""Backends' own counts correct the estimate of tokens: by model and class of text, over all lanes, across restarts."""

import collections
import json
import socket
import subprocess
import uuid

import pytest

from backend import SCENARIOS, Backend
from conftest import DEADLINE, ROOT, Daemon
from test_backend import PATIENT

ROWS = [json.loads(line) for line in (ROOT / "tests/engines/tokens/rows.jsonl").read_text().splitlines()]
TOKENS = {row["text"]: row["cl100k"] for row in ROWS}
LEARN, ALLOWED = 5, {"english": 0.10, "code": 0.10, "json": 0.20, "cjk": 0.20}
AROUND = 7  # what this backend counts for a chat of one message, beside its text


def by_kind(first, last):
    return [row for kind in ALLOWED for row in [r for r in ROWS if r["kind"] == kind][first:last]]


def counted(x, prompt_tokens=None):
    """Counts like cl100k_base; a word in `silent` or `lies` of the backend says otherwise."""
    x.head()
    x.delta({"content": "ok"})
    x.delta({}, "stop")
    tokens = TOKENS.get(x.last_user(), 0) + AROUND if prompt_tokens is None else prompt_tokens
    if not x.backend.silent:
        x.data({"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}})
    return x.done()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    listen = str(tmp_path_factory.mktemp("metrics") / "m.sock")
    SCENARIOS["counted"] = counted
    SCENARIOS["nothing"] = lambda x: counted(x, 0)
    SCENARIOS["everything"] = lambda x: counted(x, 10**9)
    with Backend() as b:
        b.silent = False
        worker = {"name": "gpu", "kind": "openai", "base_url": b.url, "timeouts": PATIENT}
        d = Daemon({"inference.workers": [worker], "inference.models": {"*": ["gpu"]}, "lanes": 2, "rag.index": "none",
                    "telemetry.listen": f"unix:{listen}"}).start()
        d.backend, d.listen = b, listen
        yield d
        d.finish()
    for name in ("counted", "nothing", "everything"):
        del SCENARIOS[name]


def ask(d, text, model="counted"):
    """Of another session each, so that both lanes learn."""
    c = d.client()
    done = c.submit(str(uuid.uuid4()), prompt=text, model=model, session=str(uuid.uuid4()))[-1]
    c.close()
    assert done["ev"] == "done", done
    return done["usage"]["prompt_tokens"]


def count(d, rows, *options):
    lines = "".join(json.dumps({"text": row["text"]}) + "\n" for row in rows)
    result = subprocess.run([d.command[0], "count", "--jsonl", "--json", *options], input=lines, env=d.env,
                            capture_output=True, text=True, timeout=DEADLINE)
    assert result.returncode == 0, result
    return [json.loads(line) for line in result.stdout.splitlines()]


def metrics(d):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(DEADLINE)
        s.connect(d.listen)
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: s.recv(1 << 16), b"")).decode()
    return dict(line.rsplit(" ", 1) for line in answer.splitlines() if line.startswith("millrace_"))


def test_counts_that_no_tokenizer_makes_are_refused(daemon):
    for model in ("nothing", "everything"):
        ask(daemon, ROWS[0]["text"], model)
        assert all("answers" not in row for row in count(daemon, ROWS[:1], "--model", model))
    assert metrics(daemon)['millrace_token_calibrations_total{outcome="refused"}'] == "2"


def test_twenty_answers_bring_the_estimate_near_and_a_restart_forgets_none(daemon):
    cjk, rest = by_kind(20, 21)[-1], by_kind(20, 32)
    assert "answers" not in count(daemon, rest, "--model", "counted")[0]
    daemon.backend.silent = True
    before = ask(daemon, cjk["text"])
    daemon.backend.silent = False
    for row in by_kind(0, LEARN):
        assert ask(daemon, row["text"]) == row["cl100k"] + AROUND
    for lane in (0, 1):
        pid = daemon.kill("inference", lane)
        daemon.wait_ready("inference", lane, pid)
    found = count(daemon, rest, "--model", "counted")
    assert {row["answers"] for row in found} == {LEARN * len(ALLOWED)}
    errors = collections.defaultdict(list)
    for row, answer in zip(rest, found, strict=True):
        assert answer["method"] == "estimate"
        errors[row["kind"]].append(abs(answer["tokens"] - row["cl100k"]) / row["cl100k"])
    for kind, allowed in ALLOWED.items():
        assert sum(errors[kind]) / len(errors[kind]) <= allowed, (kind, errors[kind])

    # assemble knows it too: of a backend that does not count the estimate is told
    daemon.backend.silent = True
    after = ask(daemon, cjk["text"])
    daemon.backend.silent = False
    real = cjk["cl100k"] + AROUND
    assert abs(after - real) < abs(before - real) / 2, (before, after, real)

    figures = metrics(daemon)
    assert figures['millrace_token_calibrations_total{outcome="used"}'] == "20"
    assert 1.2 < float(figures['millrace_token_factor{model="counted",class="cjk"}']) < 2
    assert figures['millrace_token_factor{model="counted",class="other"}'] == "1.0000"


def test_the_command_says_so_and_other_models_know_nothing_of_it(daemon):
    ask(daemon, ROWS[0]["text"])
    plain = daemon.cli("count", "--model", "other")
    assert plain.returncode == 0 and plain.stderr == ""
    for options in ([], ["--model", "counted"], ["-s", daemon.socket, "--model=counted"]):
        told = daemon.cli("count", *options)
        assert told.returncode == 0 and told.stdout == "0\n" and "answers of the daemon's backends" in told.stderr, told
