"""The command line: exit codes, what goes to stdout and what to stderr, options in every spelling, JSON for programs."""

import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import time
import uuid

import pytest

from conftest import DEADLINE, ECHO, MILLRACE, ROOT, Daemon, echo, shm_objects, text_of, wait_for

COMMANDS = ["run", "submit", "result", "cancel", "status", "restart", "reload", "drain", "dlq", "sessions", "index", "render", "count", "redact", "config",
            "check"]
ASKS_DAEMON = [["submit", "x"], ["result", "x"], ["cancel", "x"], ["status"], ["restart", "rag"], ["reload"], ["drain"]]


@pytest.fixture
def home(tmp_path):
    """What a command sees of the machine: nothing of ours."""
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LD_LIBRARY_PATH", "ASAN_OPTIONS")}
    return {**keep, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_RUNTIME_DIR": str(tmp_path / "run")}


@pytest.fixture
def cli(home, tmp_path):
    def run(*arguments, env=None, **options):
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        return subprocess.run([MILLRACE, *map(str, arguments)], env={**home, **(env or {})}, cwd=tmp_path, text=True,
                              capture_output=True, timeout=DEADLINE * 2, **options)
    return run


def done(result):
    assert result.returncode == 0, (result.args, result.stdout, result.stderr)
    return result.stdout


def fails(result, code, *words):
    assert result.returncode == code, (result.args, result.stdout, result.stderr)
    for word in words:
        assert str(word) in result.stderr, (word, result.stderr)
    return result


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


# ---- every command -------------------------------------------------------------------------------

def test_no_command_or_an_unknown_one_is_usage(cli):
    assert fails(cli(), 2, "usage: millrace").stdout == ""
    assert fails(cli("dance"), 2, "dance", "usage: millrace").stdout == ""


def test_help_lists_every_command(cli):
    listed = re.findall(r"^  ([a-z]+) ", done(cli("--help")), re.M)
    assert listed == COMMANDS
    assert done(cli("-h")) == done(cli("help")) == done(cli("--help"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_version_are_everywhere(cli, command):
    for option in ("-h", "--help"):
        result = cli(command, option)
        assert f"usage: millrace {command} " in done(result) and result.stderr == ""
    result = cli(command, "--version")
    assert re.fullmatch(r"millrace \d+\.\d+\.\d+( faults: on)?\n", done(result)) and result.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_usage_and_names_it(cli, command):
    result = fails(cli(command, "--wat"), 2, "--wat")
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [
    ["status", "extra"], ["restart"], ["restart", "rag", "post"], ["reload", "x"], ["drain", "x"], ["cancel"], ["result"],
    ["result", "a", "b"], ["submit", "a", "b"], ["submit", "--request", "f", "x"], ["submit", "--deadline", "0", "x"],
    ["submit", "--deadline", "-5", "x"], ["submit", "--deadline", " 5", "x"], ["submit", "--deadline", "5s", "x"],
    ["submit", "--deadline", "99999999999999999999999", "x"], ["submit", "--rag", "yes", "x"],
    ["submit", "--var", "novalue", "x"], ["submit", "--var", "=x", "x"], ["submit", ""], ["submit", "--session"],
    ["restart", "--lane", "first", "rag"], ["status", "--lane", "1"], ["drain", "--timeout", "soon"],
    ["drain", "--timeout", "-1"], ["config", "--defaults", "--schema"], ["config", "x"], ["check", "a", "b"],
    ["run", "extra"], ["index"], ["index", "dance"], ["index", "list", "x"], ["index", "add"], ["index", "search"],
    ["index", "search", "-k", "0", "x"], ["index", "search", "-k", "ten", "x"], ["index", "remove"],
    ["index", "search", "--queries", "f", "x"], ["index", "list", "--queries", "f"], ["index", "stats", "x"],
    ["render"], ["render", "a", "b"], ["render", "--escape", "xml", "a"], ["render", "--data"],
    ["index", "list", "--expand"], ["index", "add", "--filter", "a=b", "x"], ["index", "search", "--meta", "a=b", "x"],
    ["index", "add", "--meta", "a", "x"], ["index", "search", "--filter", "a", "x"],
    ["index", "search", "--filter", "=b", "x"], ["index", "search", "--collection", "", "x"],
    ["index", "search", "--collection", "n" * 65, "x"], ["index", "search", "--language", "german", "x"],
    ["index", "add", "--collection", "a", "--collection", "b", "x"], ["index", "list", "--tenant", "t" * 257],
    ["index", "search", *["--filter=a=b"] * 17, "x"], ["index", "search", *["--collection=a"] * 17, "x"],
    ["count", "x"], ["count", "--lines", "--jsonl"], ["count", "--model"],
    ["redact", "x"], ["redact", "--lines", "--jsonl"], ["redact", "--entities", "EMAIL"], ["redact", "--entities", ""],
    ["redact", "--min-score", "2"], ["redact", "--action", "hide"], ["redact", "--stream", "0"], ["redact", "--rules", "none"],
])
def test_wrong_use_exits_2_and_says_so_on_stderr_alone(cli, arguments):
    result = cli(*arguments, env={"MILLRACE_SOCKET": "/nonexistent/m.sock"})
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert result.stderr and not result.stdout


@pytest.mark.parametrize("arguments", ASKS_DAEMON)
def test_no_daemon_is_exit_3_and_names_the_socket(cli, tmp_path, arguments):
    by_option = fails(cli(*arguments[:1], "--socket", tmp_path / "a.sock", *arguments[1:]), 3, tmp_path / "a.sock")
    by_short = fails(cli(*arguments[:1], "-s", tmp_path / "a.sock", *arguments[1:]), 3)
    by_equals = fails(cli(*arguments[:1], f"--socket={tmp_path}/a.sock", *arguments[1:]), 3)
    assert by_option.stderr == by_short.stderr == by_equals.stderr and not by_option.stdout
    fails(cli(*arguments, env={"MILLRACE_SOCKET": str(tmp_path / "b.sock")}), 3, tmp_path / "b.sock", "millrace run")
    fails(cli(*arguments), 3, tmp_path / "run" / "millrace" / "millrace.sock")
    fails(cli(*arguments, env={"XDG_RUNTIME_DIR": ""}), 3, f"/tmp/millrace-{os.getuid()}/millrace.sock")
    fails(cli(*arguments, env={"MILLRACE_SOCKET": "/" + "x" * 200}), 3, "too long")


def test_a_folder_of_somebody_else_in_tmp_is_refused(tmp_path):
    if os.getuid() != 0:
        pytest.skip("needs root to be two users")
    folder = pathlib.Path("/tmp/millrace-54322")
    folder.mkdir()
    try:
        for arguments in ASKS_DAEMON:
            result = subprocess.run([MILLRACE, *arguments], env={"PATH": os.environ["PATH"]}, user=54322,
                                    capture_output=True, text=True, stdin=subprocess.DEVNULL)
            fails(result, 3, folder, "not permitted")
    finally:
        folder.rmdir()


def test_output_that_cannot_be_written_is_exit_1(home):
    for arguments in (["--version"], ["config", "--defaults"], ["check"], ["index", "--help"]):
        with open("/dev/full", "w") as full:
            result = subprocess.run([MILLRACE, *arguments], env=home, stdout=full, stderr=subprocess.PIPE, text=True)
        assert result.returncode == 1 and "cannot write" in result.stderr, (arguments, result)


# ---- config --------------------------------------------------------------------------------------

def test_config_prints_the_defaults_and_they_read_back(cli, tmp_path):
    defaults = done(cli("config", "--defaults"))
    path = tmp_path / "d.yaml"
    path.write_text(defaults)
    assert done(cli("config", "-c", path)) == done(cli("config")) == done(cli("config", "--effective"))
    assert done(cli("config", "--json", f"--config={path}")) == done(cli("config", "--json"))
    comments = [line for line in defaults.splitlines() if "#" in line]
    assert len(comments) > 50  # a sentence for each key
    settings = json.loads(done(cli("config", "--json")))
    assert settings["instance"] == "main" and settings["admission"]["max_in_flight"] == 256


def test_config_merges_file_and_set(cli, tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("lanes: 2\nrag: { top_k: 9 }\n")
    settings = json.loads(done(cli("config", "-c", path, "--set", "rag.top_k=7", "--set=pin=none", "--json")))
    assert (settings["lanes"], settings["rag"]["top_k"], settings["pin"]) == (2, 7, "none")
    assert settings["rag"]["max_tokens"] == 2000
    settings = json.loads(done(cli("config", "--json", "--set", 'http.listen=["127.0.0.1:1", "127.0.0.1:2"]',
                                   "--set", "http.listen.1=127.0.0.1:3", "--set", "http.listen.2=127.0.0.1:4")))
    assert settings["http"]["listen"] == ["127.0.0.1:1", "127.0.0.1:3", "127.0.0.1:4"]


def test_config_schema_knows_every_key(cli):
    schema = json.loads(done(cli("config", "--schema")))

    def check(node, value, path):
        for key, inner in value.items():
            assert key in node["properties"], (path, key)
            if isinstance(inner, dict) and "properties" in node["properties"][key]:
                check(node["properties"][key], inner, path + [key])
    check(schema, json.loads(done(cli("config", "--json"))), [])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("text, words", [
    ("lanes: many\n", ["c.yaml:1", "lanes", "expected"]),
    ("rag:\n  top_q: 3\n", ["c.yaml:2", "rag", "top_q", "top_k"]),
    ("rag: [\n", ["c.yaml:"]),
    ("- a\n", ["c.yaml:1"]),
    ("lanes: 1\nlanes: 2\n", ["c.yaml:2", "lanes"]),
    ("\0", ["c.yaml:1"]),
])
def test_bad_files_are_exit_2_with_the_place(cli, tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    for arguments in (["config", "-c", path], ["check", path], ["run", "-c", path]):
        result = fails(cli(*arguments), 2, *words)
        assert result.stdout == "" and len(result.stderr.splitlines()) == 1, result.stderr


@pytest.mark.parametrize("value", ["lanes=900", "nothing=1", "rag.top_k=x", "lanes", "=1", "rag=3"])
def test_bad_sets_are_exit_2_and_named(cli, value):
    for command in ("config", "check", "run"):
        result = fails(cli(command, "--set", value), 2, value.split("=")[0])
        assert result.stdout == ""


def test_a_file_that_is_not_there_is_exit_2(cli, tmp_path):
    for arguments in (["config", "-c"], ["check"], ["run", "-c"]):
        fails(cli(*arguments, tmp_path / "none.yaml"), 2, "none.yaml", "No such file")


# ---- check ---------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


QUIET = ["--set", "telemetry.listen=none", "--set", "http.listen=[]"]


def test_check_gives_each_finding_with_its_remedy(cli):
    found = lines(done(cli("check", "--json", *QUIET)))
    assert {f["check"] for f in found} >= {"file", "io_uring", "sandbox", "shm", "cores", "files"}
    for finding in found:
        assert set(finding) == {"check", "state", "found", "remedy"}
        assert finding["state"] in ("ok", "warn", "bad")
        assert finding["remedy"] is None or finding["state"] != "ok"
    plain = done(cli("check", *QUIET))
    assert len([line for line in plain.splitlines() if not line.startswith(" ")]) == len(found)


def test_check_of_what_the_machine_lacks_is_exit_1(cli):
    result = cli("check", "--json", *QUIET, "--set", "lanes=8", "--set", "stream.log_bytes=1073741824",
                 "--set", "admission.arena_bytes=1073741824", "--set", "memory.ring_bytes=67108864")
    shm = next(f for f in lines(result.stdout) if f["check"] == "shm")
    free, needed = (int(n) for n in re.findall(r"\d+", shm["found"]))
    assert (needed > free) == (result.returncode == 1) == (shm["state"] == "bad")
    assert needed > 8 << 30


def test_check_looks_at_the_ports(cli):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = fails(cli("check", "--set", f"telemetry.listen=127.0.0.1:{port}", "--set", "http.listen=[]"), 1)
        assert f"127.0.0.1:{port}" in result.stdout and "remedy" in result.stdout
        result = cli("check", "--json", "--set", "telemetry.listen=none",
                     "--set", f'http.listen=["127.0.0.1:0", "127.0.0.1:{port}"]')
        free, finding = (f for f in lines(result.stdout) if f["check"] == "port")
        assert result.returncode == 1 and free["state"] == "ok" and finding["state"] == "bad", result.stdout
        assert "http.listen" in finding["found"] and "http.listen" in finding["remedy"]


def test_check_connects_to_backends_only_when_asked(cli):
    port = free_port()
    worker = ["--set", f'inference.workers=[{{name: local, kind: openai, base_url: "http://127.0.0.1:{port}/v1"}}]']
    done(cli("check", *QUIET, *worker))
    result = fails(cli("check", "--connect", *QUIET, *worker), 1)
    assert "refused" in result.stdout
    with socket.socket() as backend:
        backend.bind(("127.0.0.1", port))
        backend.listen()
        assert "answers" in done(cli("check", "--connect", *QUIET, *worker))


# ---- index ---------------------------------------------------------------------------------------

@pytest.fixture
def pages(tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "gates.md").write_text("# Sluices\n\nThe sluice keeper closes the iron gate every evening at nine.\n")
    (folder / "wheels.txt").write_text("An overshot wheel takes its water from above.\n")
    (folder / "page.html").write_text("<html><title>Stones</title><body><p>A mill stone weighs a ton.</p></body></html>")
    (folder / "rows.jsonl").write_text(json.dumps({"id": "r1", "title": "Row", "text": "Rye flour is dark. Bran is not."}) + "\n")
    (folder / "skipped.bin").write_text("not a document")
    return folder


@pytest.fixture
def index(cli, pages, tmp_path):
    folder = tmp_path / "ix"
    added = json.loads(done(cli("index", "add", "--json", "--index", folder, pages)))
    assert added["added"] == 4 and added["documents"] == 4 and added["refused"] == 0
    return folder


def test_index_add_says_what_it_did_and_draws_no_bar_into_a_pipe(cli, pages, tmp_path):
    result = cli("index", "add", "--index", tmp_path / "ix", pages)
    assert "added 4" in done(result) and result.stderr == ""
    assert "unchanged 4" in done(cli("index", f"--index={tmp_path}/ix", "add", pages))
    (pages / "wheels.txt").write_text("An undershot wheel takes its water from below.\n")
    assert "replaced 1" in done(cli("index", "add", "--index", tmp_path / "ix", pages / "wheels.txt"))


def test_quality_scores_what_a_collection_in_a_folder_judges(tmp_path):
    folder = tmp_path / "mills"
    (folder / "qrels").mkdir(parents=True)
    texts = {"a": "An overshot wheel.", "b": "A wheel, a wheel, an undershot wheel of oak and iron.", "c": "Rye flour."}
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"_id": i, "title": "", "text": t}) + "\n" for i, t in texts.items()))
    (folder / "queries.jsonl").write_text("".join(json.dumps({"_id": i, "text": i}) + "\n" for i in ("wheel", "rye", "unjudged")))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nwheel\tb\t1\nwheel\tmissing\t1\nrye\tc\t2\n")
    told = subprocess.run([ROOT / "bench" / "quality", tmp_path, "--json"], env={**os.environ, "MILLRACE": MILLRACE}, text=True,
                          capture_output=True, check=True).stdout
    found = json.loads(told)
    first = 1 / (1 + 1 / 1.5849625)  # one of two that are wanted, at the first place
    assert found["queries"] == 2 and found["ndcg10"] == round((first + 1) / 2, 4) and found["map"] == (0.5 + 1) / 2, found
    skipped = subprocess.run([ROOT / "bench" / "quality"], text=True, capture_output=True)
    assert skipped.returncode == 0 and "skipped" in skipped.stdout


def test_index_add_gives_metadata_to_files_of_any_kind(cli, pages, tmp_path):
    (pages / "front.md").write_text("---\ntitle: Locks\nteam: north\ntags: [iron, oak]\n---\nThe lock keeper oils the gate.\n")
    done(cli("index", "add", "--index", tmp_path / "ix", "--meta", "team=south", "--meta", "year=1780", pages))

    def found(*filters):
        answer = done(cli("index", "search", "--json", "--index", tmp_path / "ix", *[f"--filter={f}" for f in filters], "gate"))
        return {os.path.basename(hit["id"]) for hit in json.loads(answer)["hits"]}

    assert found("team=south") == {"gates.md"} and found("team=north") == {"front.md"}
    assert found("year=1780") == {"gates.md", "front.md"} and found("tags=oak") == {"front.md"}
    assert found("year=1781") == set()
    assert "unchanged 5" in done(cli("index", "add", "--index", tmp_path / "ix", "--meta", "team=south", "--meta", "year=1780", pages))


def test_index_add_reads_rows_from_stdin(cli, tmp_path):
    rows = "".join(json.dumps({"id": f"d{i}", "text": f"document number {i}"}) + "\n" for i in range(3))
    added = json.loads(done(cli("index", "add", "--json", "--index", tmp_path / "ix", "-", input=rows)))
    assert added["added"] == 3
    listed = lines(done(cli("index", "list", "--json", "--index", tmp_path / "ix")))
    assert [d["id"] for d in listed] == ["d0", "d1", "d2"]


def test_index_uses_the_default_place(cli, pages, tmp_path):
    done(cli("index", "add", pages))
    assert (tmp_path / "state" / "millrace" / "main.index").exists()
    assert json.loads(done(cli("index", "stats", "--json")))["documents"] == 4
    state = tmp_path / "elsewhere"
    fails(cli("index", "stats", env={"STATE_DIRECTORY": str(state)}), 1, state)


def test_index_search_has_the_shape_that_programs_rely_on(cli, index, pages):
    answer = json.loads(done(cli("index", "search", "--json", "-k", "2", "--index", index, "iron", "gate")))
    assert set(answer) == {"query_id", "took_us", "hits"} and answer["query_id"] is None
    hit = answer["hits"][0]
    assert set(hit) == {"id", "title", "score", "rank", "snippet", "start", "end"}
    assert hit["id"].endswith("gates.md") and hit["title"] == "Sluices" and hit["rank"] == 1
    row = json.loads(done(cli("index", "search", "--json", "--index", index, "dark rye flour")))["hits"][0]
    text = b"Rye flour is dark. Bran is not."
    assert row["id"] == "r1" and row["snippet"] in text[row["start"]:row["end"]].decode()
    scores = [h["score"] for h in answer["hits"]]
    assert scores == sorted(scores, reverse=True) and [h["rank"] for h in answer["hits"]] == list(range(1, len(scores) + 1))


def test_index_search_takes_queries_from_a_file_and_goes_on_after_a_bad_row(cli, index, tmp_path):
    queries = '{"id":"q1","text":"gate"}\n{"text":"wheel"}\nnot json\n{"id":"q3","text":"the of and"}\n'
    result = cli("index", "search", "--index", index, "--queries", "-", input=queries)
    assert result.returncode == 1 and "-:3" in result.stderr
    answers = lines(result.stdout)
    assert [a["query_id"] for a in answers] == ["q1", None, "q3"] and answers[0]["hits"] and answers[1]["hits"]
    path = tmp_path / "q.jsonl"
    path.write_text('{"id":"only","text":"stone"}\n')
    assert lines(done(cli("index", "search", "--index", index, f"--queries={path}")))[0]["query_id"] == "only"
    fails(cli("index", "search", "--index", index, "--queries", tmp_path / "none"), 1, "none")


@pytest.mark.parametrize("query", ["", "   ", "?!", "\u20ac\U0001f600", "AND OR NOT (", "x" * 10000])
def test_an_unusable_query_has_no_hits_and_exit_0(cli, index, query):
    answer = json.loads(done(cli("index", "search", "--json", "--index", index, "--", query)))
    assert answer["hits"] == []


def test_two_dashes_end_the_options(cli, index):
    assert "gates.md" in done(cli("index", "search", "--index", index, "--", "--json", "gate"))
    fails(cli("index", "--index", index, "--", "remove", "--help"), 1, "--help", "no document")


def test_index_list_remove_and_stats(cli, index):
    before = json.loads(done(cli("index", "stats", "--json", "--index", index)))
    assert set(before) == {"documents", "chunks", "bytes", "terms"}
    listed = lines(done(cli("index", "list", "--json", "--index", index)))
    assert len(listed) == before["documents"] == 4 and all(set(d) == {"id", "title", "chunks", "bytes"} for d in listed)
    assert sum(d["bytes"] for d in listed) == before["bytes"] and sum(d["chunks"] for d in listed) == before["chunks"]
    assert "r1" in done(cli("index", "list", "--index", index))
    assert done(cli("index", "remove", "--index", index, "r1")) == "removed 1\n"
    fails(cli("index", "remove", "--index", index, "r1"), 1, "r1")
    assert json.loads(done(cli("index", "stats", "--json", "--index", index)))["documents"] == 3
    assert "documents 3" in done(cli("index", "stats", "--index", index))


def found(cli, index, *arguments):
    return {hit["id"] for hit in json.loads(done(cli("index", "search", "--json", "--index", index, *arguments)))["hits"]}


def test_index_keeps_collections_and_tenants_apart(cli, index, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("The iron gate is painted every spring.\n")
    done(cli("index", "add", "--index", index, "--collection", "notes", "--tenant", "ann", note))
    gates = str(tmp_path / "pages" / "gates.md")
    assert found(cli, index, "iron gate") == {gates}
    assert found(cli, index, "--tenant", "bob", "iron gate") == {gates}
    assert found(cli, index, "--tenant", "ann", "iron gate") == {gates, str(note)}
    assert found(cli, index, "--tenant", "ann", "--collection", "notes", "iron gate") == {str(note)}
    assert found(cli, index, "--collection", "default", "--collection", "notes", "iron gate") == {gates}
    listed = lines(done(cli("index", "list", "--json", "--index", index, "--tenant", "ann")))
    assert [(d["id"], d["collection"], d["tenant"]) for d in listed] == [(str(note), "notes", "ann")]
    assert "in notes  of ann" in done(cli("index", "list", "--index", index))
    fails(cli("index", "remove", "--index", index, note), 1, note)
    assert done(cli("index", "remove", "--index", index, "--collection=notes", "--tenant=ann", note)) == "removed 1\n"


def test_index_filters_by_metadata_and_keeps_its_language(cli, tmp_path):
    rows = "".join(json.dumps({"id": lang, "text": "Die H\u00e4user", "metadata": {"lang": lang}}) + "\n" for lang in ("de", "en"))
    ix = tmp_path / "ix"
    done(cli("index", "add", "--index", ix, "--language", "german", "-", input=rows))
    assert found(cli, ix, "haus") == {"de", "en"}
    assert found(cli, ix, "--filter", "lang=de", "haus") == {"de"} == found(cli, ix, "--expand", "--filter", "lang=de", "haus")
    fails(cli("index", "add", "--index", ix, "--language", "english", "-", input=rows), 1, "german")
    fails(cli("index", "add", "--index", tmp_path / "new", "--language", "klingon", "-", input=rows), 1, "klingon", "english")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("verb", [["search", "x"], ["list"], ["stats"], ["remove", "x"]])
def test_a_missing_index_is_exit_1_and_is_not_made(cli, tmp_path, verb):
    result = fails(cli("index", *verb, "--index", tmp_path / "none"), 1, tmp_path / "none", "millrace index add")
    assert result.stdout == "" and not (tmp_path / "none").exists()


def test_index_add_of_nothing_is_exit_1_and_makes_none(cli, tmp_path):
    fails(cli("index", "add", "--index", tmp_path / "none", tmp_path / "nowhere.txt"), 1, "nowhere.txt")
    assert not (tmp_path / "none").exists()


def on_terminal(arguments, env):
    """Runs with stdout and stderr on a terminal; what it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([MILLRACE, *map(str, arguments)], env=env, stdin=subprocess.DEVNULL, stdout=theirs,
                               stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            data = b""
        if not data:
            break
        seen += data
    os.close(ours)
    assert process.wait(DEADLINE) == 0, seen
    return seen


def test_colour_is_for_terminals_without_no_color(cli, home, index):
    arguments = ["index", "search", "--index", index, "gate"]
    assert b"\x1b[1m" in on_terminal(arguments, {**home, "TERM": "xterm"})
    assert b"\x1b" not in on_terminal(arguments, {**home, "TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b" not in done(cli(*arguments))


def test_progress_is_for_terminals(home, pages, tmp_path):
    seen = on_terminal(["index", "add", "--index", tmp_path / "ix", pages], {**home, "TERM": "xterm"})
    assert b"MB/s" in seen and b"added 4" in seen


# ---- run -----------------------------------------------------------------------------------------

def test_run_is_known_by_its_name_in_the_list_of_processes(daemon):
    d = daemon(ECHO)
    title = pathlib.Path(f"/proc/{d.process.pid}/cmdline").read_bytes().split(b"\0")[0]
    assert title == b"millrace run"


def test_run_takes_socket_and_config_in_each_spelling(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("telemetry: { listen: none }\nlanes: 1\n")
    for option in (["-s", str(tmp_path / "x.sock")], [f"--socket={tmp_path}/x.sock"], ["--socket", str(tmp_path / "x.sock")]):
        d = Daemon(ECHO, arguments=[f"--config={path}", *option])
        try:
            d.start()
            assert f"socket={tmp_path}/x.sock" in d.log() and "lanes=1" in d.log()
            assert os.stat(tmp_path / "x.sock.ctl").st_mode & 0o777 == 0o600
            assert d.stop() == 0
            assert not (tmp_path / "x.sock").exists() and not (tmp_path / "x.sock.ctl").exists()
        finally:
            d.finish()


def test_run_tells_notify_socket(tmp_path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(tmp_path / "notify"))
    listener.settimeout(DEADLINE)
    d = Daemon(ECHO, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    try:
        d.start()
        assert b"READY=1" in listener.recv(4096)
    finally:
        d.finish()
        listener.close()


def test_run_leaves_stdout_to_nobody(tmp_path):
    d = Daemon(ECHO)
    process = subprocess.Popen(d.command, env=d.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        while not process.stderr.readline().startswith("millrace ready pid="):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0 and out == "" and "millrace ready pid=" not in err
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        d.finish()


def test_run_with_the_telemetry_port_taken_says_so(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        d = Daemon({**ECHO, "telemetry.listen": f"127.0.0.1:{port}"})
        try:
            d.start(ready=False)
            wait_for("a word about it", lambda: f"127.0.0.1:{port}" in d.log())
        finally:
            d.stop()
            d.finish(check=False)
    assert shm_objects(d.instance) == []


# ---- status, restart, reload, drain --------------------------------------------------------------

STAGES = ["rag", "assemble", "inference", "post", "stream"]


@pytest.fixture(scope="module")
def live():
    """One daemon for what changes nothing, or what any number of tests may do to it."""
    d = Daemon({**echo(gap_ms=5), "lanes": "2"})
    try:
        yield d.start()
    finally:
        d.finish()


def test_status_has_the_shape_that_programs_rely_on(live):
    s = live.status()
    assert set(s) == {"version", "instance", "pid", "uptime_s", "state", "socket", "http", "gateways", "lanes",
                      "telemetry", "requests"}
    assert s["pid"] == live.process.pid and s["state"] == "running" and s["socket"] == live.socket
    assert s["instance"] == live.instance and s["http"] == live.http() and s["uptime_s"] > 0
    gateway = s["gateways"][0]
    assert set(gateway) >= {"index", "pid", "state", "core", "restarts", "last_exit", "connections"}
    assert [lane["lane"] for lane in s["lanes"]] == [0, 1]
    for lane in s["lanes"]:
        assert set(lane) == {"lane", "core", "in_flight", "stages", "state", "resets"}
        assert [stage["stage"] for stage in lane["stages"]] == STAGES
        for stage in lane["stages"]:
            assert set(stage) >= {"stage", "pid", "state", "restarts", "last_exit", "rss_bytes", "records_in",
                                  "records_out", "ring"}
            assert set(stage["ring"]) == {"depth", "capacity", "high_water", "bytes"} and stage["state"] == "ready"
    assert set(s["telemetry"]) >= {"pid", "state", "restarts"}
    assert set(s["requests"]) == {"admitted", "completed", "failed", "shed", "cancelled", "in_flight", "dead_letters"}


def test_status_for_people_is_one_line_a_process_without_colour(live):
    result = live.cli("status")
    out = done(result)
    assert result.stderr == "" and "\x1b" not in out
    assert f"\nhttp {' '.join(live.http())}\n" in out
    out = out.replace(live.http()[0], "")  # a port may be the number of a process
    pids = {str(p["pid"]) for p in live.status()["gateways"]} | {
        str(stage["pid"]) for lane in live.status()["lanes"] for stage in lane["stages"]}
    for pid in pids:
        assert len(re.findall(rf"\b{pid}\b", out)) == 1, (pid, out)


def test_status_follows_the_books(live):
    before = live.status()["requests"]
    events = live.client().submit(str(uuid.uuid4()), prompt="one two")
    assert events[-1]["ev"] == "done"
    after = wait_for("the books to close", lambda: (r := live.status()["requests"])["in_flight"] == 0 and r)
    assert after["admitted"] == before["admitted"] + 1 and after["completed"] == before["completed"] + 1
    assert after["admitted"] == after["completed"] + after["failed"] + after["cancelled"] + after["in_flight"]


@pytest.mark.parametrize("stage", STAGES + ["gateway", "telemetry"])
def test_restart_replaces_the_process_and_says_how_many(live, stage):
    before, restarts = live.pid(stage), live.place(stage)["restarts"]
    answer = json.loads(done(live.cli("restart", "--json", "--lane=0", stage) if stage in STAGES
                             else live.cli("restart", "--json", stage)))
    assert answer["ok"] is True and answer["restarted"] == 1
    place = live.place(stage)
    assert place["pid"] != before and place["state"] == "ready" and place["restarts"] == restarts + 1
    assert text_of(live.client().submit(str(uuid.uuid4()), prompt="still well")) == "still well"


def test_restart_without_lane_is_every_lane(live):
    assert done(live.cli("restart", "post")) == "restarted 2 processes\n"
    assert done(live.cli("restart", "--lane", "1", "post")) == "restarted 1 process\n"


def test_restart_all_under_load_loses_nothing(live):
    c = live.client()
    ids = [str(uuid.uuid4()) for _ in range(40)]
    for i in ids:
        c.send(op="submit", id=i, prompt=f"slow words for {i} " * 5)
    done(live.cli("restart", "all"))
    reader = live.client()  # the gateway went too: whoever asks again by id misses nothing
    for i in ids:
        reader.send(op="attach", id=i, after=0)
    for i in ids:
        events = reader.events(i)
        assert events[-1]["ev"] == "done", (i, events[-1])
        assert text_of(events) == f"slow words for {i} " * 5


@pytest.mark.parametrize("arguments, word", [(["restart", "miller"], "stage"), (["restart", "--lane", "7", "rag"], "lane")])
def test_restart_of_what_is_not_there_is_exit_2(live, arguments, word):
    result = fails(live.cli(*arguments), 2, word)
    assert result.stdout == ""
    refused = fails(live.cli(*arguments, "--json"), 2, word)
    assert json.loads(refused.stdout)["code"] == "invalid_request"


def test_reload_applies_what_may_change_and_refuses_the_rest(daemon):
    d = daemon(ECHO, config="rag: { top_k: 5 }\n")
    path = pathlib.Path(d.directory, "millrace.yaml")
    assert done(d.cli("reload")) == "restarted 0 processes\n"
    path.write_text("rag: { top_k: 6 }\n")
    answer = json.loads(done(d.cli("reload", "--json")))
    assert answer["changed"] == ["rag.top_k"] and answer["restarted"] >= 1
    pids = [s["pid"] for lane in d.status()["lanes"] for s in lane["stages"]]
    path.write_text("rag:\n  top_k: lots\n")
    fails(d.cli("reload"), 2, "millrace.yaml:2", "rag.top_k", "expected")
    path.write_text("rag: { top_k: 6 }\nlanes: 5\n")
    fails(d.cli("reload"), 2, "lanes")
    assert pids == [s["pid"] for lane in d.status()["lanes"] for s in lane["stages"]]
    d.process.send_signal(signal.SIGHUP)
    wait_for("the refusal in the log", lambda: "lanes" in d.log())
    assert text_of(d.client().submit("x", prompt="the old one goes on")) == "the old one goes on"


def test_drain_finishes_what_was_admitted_and_ends_the_daemon(daemon):
    d = daemon(echo(gap_ms=30))
    c = d.client()
    c.send(op="submit", id="a", prompt="several words that take their time")
    assert c.next()["ev"] == "accepted"
    result = d.cli("drain")
    assert "drained" in done(result)
    events = c.events("a")
    assert events[-1]["ev"] == "done" and text_of(events) == "several words that take their time"
    assert d.process.wait(DEADLINE) == 0 and shm_objects(d.instance) == []


def test_drain_that_takes_too_long_is_exit_1(daemon):
    d = daemon(echo(gap_ms=2000))
    c = d.client()
    c.send(op="submit", id="a", prompt="word " * 100)
    assert c.next()["ev"] == "accepted"
    assert c.next()["ev"] == "delta"
    result = d.cli("drain", "--timeout=100", "--json")
    assert result.returncode == 1, result
    answer = json.loads(result.stdout)
    assert answer["ok"] is False and answer["lost"] == 1 and result.stderr
    d.process.wait(DEADLINE)


# ---- submit, result, cancel ----------------------------------------------------------------------

def test_submit_streams_the_answer_to_stdout_and_nothing_else(live):
    result = live.cli("submit", "two  words\there")
    assert done(result) == "two  words\there\n" and result.stderr == ""
    assert done(live.cli("submit", "--", "--json")) == "--json\n"
    assert done(live.cli("submit", "ends in a line\n")) == "ends in a line\n"


def test_submit_reads_stdin(live):
    for arguments in (["submit", "-"], ["submit"]):
        result = subprocess.run([MILLRACE, *arguments], env=live.env, input=b"from a pipe", capture_output=True)
        assert result.returncode == 0 and result.stdout == b"from a pipe\n"
    result = subprocess.run([MILLRACE, "submit", "-"], env=live.env, input=b"a\0b", capture_output=True)
    assert result.returncode == 2 and b"NUL" in result.stderr
    fails(live.cli("submit", "-"), 2, "empty")


def test_submit_json_is_every_event_a_line(live):
    ident = str(uuid.uuid4())
    events = lines(done(live.cli("submit", "--json", f"--id={ident}", "--session", "s", "--priority", "bulk",
                                 "--deadline=60000", "--rag", "off", "--system", "be brief", "one two three")))
    assert [events[0]["ev"], events[-1]["ev"]] == ["accepted", "done"]
    assert all(e["id"] == ident for e in events) and text_of(events) == "one two three"


def test_submit_takes_a_chat_body(live, tmp_path):
    path = tmp_path / "body.json"
    path.write_text('{"model":"x","messages":[{"role":"user","content":"from the body"}]}')
    assert done(live.cli("submit", "--request", path)) == "from the body\n"
    assert done(live.cli("submit", f"--request={path}", "--model", "y")) == "from the body\n"
    path.write_text("{")
    fails(live.cli("submit", "--request", path), 1, "invalid_request", "body")
    fails(live.cli("submit", "--request", tmp_path / "none.json"), 1, "none.json")


@pytest.mark.parametrize("arguments, code, word", [
    (["--id", "i" * 129, "x"], 2, "id"), (["--id", "a\nb", "x"], 1, "id"), (["--priority", "urgent", "x"], 2, "priority"),
    (["--template", "letter", "x"], 1, "letter"), ([""], 2, "empty"),
])
def test_submit_of_what_is_refused_says_why(live, arguments, code, word):
    result = fails(live.cli("submit", *arguments), code, word)
    assert result.stdout == ""


def test_submit_with_an_error_is_exit_1_and_keeps_stdout_clean(live):
    result = fails(live.cli("submit", "--deadline", "1", "too late " * 50), 1, "deadline_exceeded")
    assert "deadline_exceeded" not in result.stdout
    events = lines(live.cli("submit", "--json", "--deadline", "1", "too late " * 50).stdout)
    assert events[-1]["ev"] == "error" and events[-1]["code"] == "deadline_exceeded"


def test_detach_result_and_cancel(live, daemon):
    d = daemon(echo(gap_ms=20))
    ident = done(d.cli("submit", "--detach", "a detached answer")).strip()
    assert done(d.cli("result", "--wait", ident)) == "a detached answer\n"
    answer = json.loads(done(d.cli("result", "--json", ident)))
    assert answer["status"] == "completed" and answer["text"] == "a detached answer" and answer["error"] is None
    slow = done(d.cli("submit", "--detach", "--id", "slow", "word " * 500)).strip()
    assert slow == "slow"
    result = d.cli("result", slow)
    assert done(result) == "" and re.search("slow is (queued|running)", result.stderr)
    assert json.loads(done(d.cli("cancel", "--json", slow))) == {"ev": "cancelled", "id": slow}
    result = fails(d.cli("result", "--wait", slow), 1, "cancelled")
    assert result.stdout == ""
    assert done(d.cli("cancel", slow)) == ""  # a finished one: the same answer
    fails(d.cli("result", "nobody"), 1, "not_found")
    fails(d.cli("result", "--json", "nobody"), 1)


def test_sigint_cancels(daemon):
    d = daemon(echo(gap_ms=50))
    process = subprocess.Popen([MILLRACE, "submit", "--id", "endless", "word " * 10000], env=d.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout.read(5) == b"word "
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1 and b"cancelled" in err
    assert wait_for("the books to close", lambda: d.status()["requests"]["cancelled"] == 1)


def test_sigint_cancels_while_nothing_comes(daemon):
    d = daemon(echo(delay_ms=300000))
    process = subprocess.Popen([MILLRACE, "submit", "never"], env=d.env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for("the request", lambda: d.status()["requests"]["in_flight"] == 1)
    time.sleep(0.2)  # it waits by now
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1 and "cancelled" in err


def test_submit_survives_the_death_of_its_gateway(daemon):
    d = daemon(echo(gap_ms=20))
    prompt = "".join(f"word{i} " for i in range(60))
    process = subprocess.Popen([MILLRACE, "submit", "--id", "g", prompt], env=d.env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    first = process.stdout.read(5)
    d.kill("gateway")
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, err
    assert (first + out).decode() == prompt + "\n"


def test_an_answer_that_cannot_be_written_is_exit_1(live):
    with open("/dev/full", "w") as full:
        result = subprocess.run([MILLRACE, "submit", "words"], env=live.env, stdin=subprocess.DEVNULL, stdout=full,
                                stderr=subprocess.PIPE, text=True)
    assert result.returncode == 1 and "cannot write" in result.stderr
