"""`millrace count`: one number for each text, and how far it is off, where real counts are at hand."""

import collections
import json
import os
import subprocess

import pytest

from conftest import DEADLINE, MILLRACE, ROOT

ROWS = ROOT.parent / "shared" / "data" / "tokens-dev.jsonl"
CLASSES = {"prose": ("English", 10), "code": ("code", 10), "json": ("JSON", 20), "zh": ("CJK", 20), "ja": ("CJK", 20),
           "ko": ("CJK", 20)}


def count(text, *options):
    text = text if isinstance(text, bytes) else text.encode()
    env = {**os.environ, "MILLRACE_SOCKET": "/nobody/runs/here"}
    return subprocess.run([MILLRACE, "count", *options], input=text, env=env, capture_output=True, timeout=DEADLINE)


def numbers(result):
    assert result.returncode == 0 and result.stderr == b"", result
    return [int(line) for line in result.stdout.splitlines()]


def test_a_row_that_is_none_ends_it_with_its_number():
    for bad in (b"{", b"[]", b'"text"', b'{"id":"a"}', b'{"text":null}', b'{"text":7}', b""):
        result = count(b'{"text":"one"}\n' + bad + b'\n{"text":"two"}\n', "--jsonl")
        assert result.returncode == 1 and result.stdout == b"1\n", (bad, result)
        assert b"standard input:2: " in result.stderr and result.stderr.count(b"\n") == 1, (bad, result)


def test_standard_input_is_one_text_or_one_for_each_line():
    assert numbers(count("")) == [0] and numbers(count("", "--lines")) == [] and numbers(count("", "--jsonl")) == []
    assert numbers(count("one two\nthree")) == [4]
    assert numbers(count("one two\n\nthree", "--lines")) == [2, 0, 1]
    assert numbers(count('{"text":"one two"}\n{"text":"a\\nb","id":7}\n{"text":""}\n', "--jsonl")) == [2, 3, 0]
    assert numbers(count(b"\xff\x00\xe4\n", "--lines"))[0] >= 1


def test_json_says_how_it_was_counted():
    rows = count("one\ntwo three\n", "--lines", "--json", "--model", "any")
    assert [json.loads(line) for line in rows.stdout.splitlines()] == [
        {"tokens": 1, "method": "estimate"}, {"tokens": 2, "method": "estimate"}]


def test_the_estimate_is_as_near_as_the_header_says():
    if not ROWS.exists():
        pytest.skip("the counted texts are not at hand")
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    errors = collections.defaultdict(list)
    for row, tokens in zip(rows, numbers(count(ROWS.read_bytes(), "--jsonl")), strict=True):
        if row["kind"] in CLASSES:
            errors[CLASSES[row["kind"]]].append(abs(tokens - row["o200k_base"]) / row["o200k_base"])
    assert len(errors) == 4
    for (name, percent), each in errors.items():
        assert sum(each) / len(each) * 100 <= percent, name
