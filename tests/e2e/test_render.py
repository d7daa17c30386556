"""`millrace render`: the template engine alone; the published cases of Mustache, where they are at hand."""

import json
import shutil
import subprocess

import pytest

from conftest import DEADLINE, MILLRACE, ROOT

CASES = ROOT.parent / "shared" / "data" / "mustache"


@pytest.fixture
def render(tmp_path):
    def run(template, *arguments, data=None, partials=None):
        (tmp_path / "t.mustache").write_bytes(template.encode())
        options = list(arguments)
        if data is not None:
            (tmp_path / "data.json").write_text(json.dumps(data))
            options += ["--data", tmp_path / "data.json"]
        if partials is not None:
            (tmp_path / "partials").mkdir(exist_ok=True)
            for name, text in partials.items():
                (tmp_path / "partials" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "partials" / name).write_bytes(text.encode())
            options += ["--partials", tmp_path / "partials"]
        return subprocess.run([MILLRACE, "render", *map(str, options), tmp_path / "t.mustache"], capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=DEADLINE)
    return run


def text(result):
    assert result.returncode == 0, result.stderr
    assert result.stderr == b""
    return result.stdout.decode()


def fails(result, *words):
    assert result.returncode == 1 and result.stdout == b"", result
    for word in words:
        assert str(word) in result.stderr.decode(), result.stderr
    assert result.stderr.count(b"\n") == 1


def test_nothing_is_added_and_nothing_escaped_unless_it_is_asked_for(render):
    assert text(render("a {{x}}", data={"x": "<&>"})) == "a <&>"
    assert text(render("{{x}}", "--escape", "html", data={"x": "<\">"})) == "&lt;&quot;&gt;"
    assert text(render("{{x}}", "--escape=none", data={"x": "&"})) == "&"
    assert text(render("")) == "" and text(render("[{{x}}]")) == "[]"
    assert text(render("{{.}}", data="root")) == "root"


def test_front_matter_is_no_part_of_the_text_and_the_option_wins(render):
    front = "---\nescape: html\n---\n"
    assert text(render(front + "{{x}}\n", data={"x": "&"})) == "&amp;\n"
    assert text(render(front + "{{x}}", "--escape", "none", data={"x": "&"})) == "&"
    fails(render("---\nmissing: error\n---\nDear {{name}},"), "t.mustache:4:6:", "'name' is missing")
    fails(render("---\nmissing: error\ncolour: red\n---\n"), "t.mustache:3:1:", "colour")
    fails(render("---\nescape: html\n"), "t.mustache:1:1:", "---")


def test_errors_are_exit_1_with_line_and_column(render):
    fails(render("a\n {{#b}}\n"), "t.mustache:2:2:", "'b' is not closed")
    fails(render("{{>a}}", partials={"a.mustache": "\n{{/x}}"}), "a.mustache:2:1:", "'x'")
    fails(render("{{>a}}", partials={"a.mustache": "{{>b}}", "b": "\n  {{>a}}"}), "does it include itself")
    fails(render("{{>a}}", partials={"a.mustache": "x\n  {{>a}}"}), "a.mustache:2:3:", "does it include itself")
    fails(render("{{x}}", data={"x": []}), "t.mustache:1:1:", "list")


def test_data_that_are_no_json_are_exit_1_with_their_place(render, tmp_path):
    (tmp_path / "bad.json").write_text('{"a":\n nope}')
    fails(render("{{a}}", "--data", tmp_path / "bad.json"), "bad.json:2:")
    fails(render("{{a}}", "--data", tmp_path / "none.json"), "none.json")
    fails(render("{{a}}", "--partials", tmp_path / "nowhere"), "nowhere")


def test_partials_come_from_their_folder_and_from_nowhere_else(render, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret.mustache").write_text("secret")
    (tmp_path / "partials" / "sub").mkdir(parents=True)
    (tmp_path / "partials" / "link").symlink_to(tmp_path / "secret")
    got = text(render(f"[{{{{>a}}}}{{{{>b}}}}{{{{>sub/c}}}}|{{{{>../secret}}}}{{{{>{tmp_path}/secret}}}}{{{{>link}}}}{{{{>sub}}}}{{{{>none}}}}]",
                      partials={"a.mustache": "1", "a": "0", "b": "2", "sub/c.mustache": "3"}))
    assert got == "[123|]"


def test_a_template_may_come_from_standard_input():
    result = subprocess.run([MILLRACE, "render", "-"], input=b"{{! }}x", capture_output=True, timeout=DEADLINE)
    assert (result.returncode, result.stdout) == (0, b"x")


@pytest.mark.parametrize("path", sorted(CASES.glob("*.json")) or [None], ids=lambda p: p.stem if p else "none")
def test_the_published_cases(render, tmp_path, path):
    if path is None:
        pytest.skip(f"{CASES} is not there")
    wrong = []
    for case in json.loads(path.read_text())["tests"]:
        shutil.rmtree(tmp_path / "partials", ignore_errors=True)
        partials = {f"{name}.mustache": t for name, t in (case.get("partials") or {}).items()}
        result = render(case["template"], "--escape", "html", data=case["data"], partials=partials)
        if (result.returncode, result.stdout.decode()) != (0, case["expected"]):
            wrong.append((case["name"], result))
    assert not wrong
