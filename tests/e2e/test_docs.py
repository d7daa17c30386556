"""The documents say what is: commands run, links lead somewhere, tables are those that the program is made from."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess

import pytest

from conftest import BUILD, DEADLINE, MILLRACE, ROOT, Daemon, wait_for

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MAN = ROOT / "docs" / "millrace.1"
FOLDERS = ("bench", "cli", "docs", "include", "scripts", "shm", "stages", "supervisor", "tests")

# Commands of sh blocks that no test here can run, and what runs them.
ELSEWHERE = {
    "scripts/quickstart": "builds a release and uses the user's own instance; `scripts/test` begins with the same steps",
    "scripts/test": "runs this file",
    "scripts/prove": "takes hours; its parts in their short form are suites of their own",
    "meson setup build --buildtype=release && ninja -C build": "how the build under test came about",
    "bench/run": "measures for minutes; tests/e2e starts the same programs",
}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page):
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"\s+#.*", "", line).strip()
            if line and not line.startswith("#"):
                yield line


def configurations(page):
    """Blocks of YAML that are ours: other programs have theirs."""
    sections = json.loads(cli("config", "--schema"))["properties"]
    return [text for text in blocks(page, "yaml") if re.match(r"(?:#.*\n)*(\w+):", text).group(1) in sections]


def cli(*arguments):
    result = subprocess.run([MILLRACE, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


# ---- commands ------------------------------------------------------------------------------------

@pytest.mark.parametrize("page", [p for p in PAGES if list(commands(p))], ids=lambda p: p.name)
def test_commands_of_the_page_run_in_their_order(page, tmp_path):
    """`millrace run` is started with names of its own and stopped again; the others talk to such a daemon."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for number, text in enumerate(configurations(page)):
        (tmp_path / ("millrace.yaml" if number == 0 else f"{number}.yaml")).write_text(text)
    for name, texts in (("letter.mustache", blocks(page, "mustache")), ("data.json", blocks(page, "json"))):
        if texts:
            (tmp_path / name).write_text(texts[0])
    d = Daemon(directory=str(tmp_path))
    d.env = {**d.env, "XDG_STATE_HOME": str(tmp_path), "STATE_DIRECTORY": ""}  # commands and daemon: one default place
    d.command += ["--set", f"rag.index={tmp_path}/millrace/main.index"]
    d.start()
    try:
        for line in commands(page):
            if any(line == known or line.startswith(known + " ") for known in ELSEWHERE):
                continue
            words = shlex.split(line)
            if words[0] == "curl":
                told = subprocess.run([word.replace("127.0.0.1:8080", d.http()[0]) for word in words] + ["-sS", "--fail"],
                                      text=True, capture_output=True, timeout=DEADLINE)
                assert told.returncode == 0, (line, told.stdout, told.stderr)
                continue
            assert words[0] in ("millrace", "build/millrace"), f"{page.name}: who runs `{line}`? (ELSEWHERE, or a test)"
            if words[1] == "run":
                run_and_stop(words[2:], tmp_path)
                continue
            private = ["--set", "telemetry.listen=none", "--set", "http.listen=[]"] if words[1] == "check" else []
            result = subprocess.run([MILLRACE, *words[1:], *private], cwd=tmp_path, env=d.env, text=True,
                                    capture_output=True, stdin=subprocess.DEVNULL, timeout=DEADLINE * 2)
            assert result.returncode == 0, (line, result.stdout, result.stderr)
    finally:
        d.finish()


def run_and_stop(arguments, directory):
    d = Daemon(directory=str(directory / "run"), arguments=arguments)
    os.makedirs(d.directory, exist_ok=True)
    d.command = [word if not pathlib.Path(directory, word).is_file() else str(directory / word) for word in d.command]
    try:
        d.start()
        assert d.stop(signal.SIGTERM) == 0
    finally:
        d.finish()


def test_scripts_that_are_run_elsewhere_are_there():
    for command in ELSEWHERE:
        if "/" in command.split()[0]:
            path = ROOT / command.split()[0]
            assert os.access(path, os.X_OK), path
    for script in ("packages", "quickstart", "test"):
        subprocess.run(["bash", "-n", ROOT / "scripts" / script], check=True)
    subprocess.run([ROOT / "scripts" / "prove", "--help"], check=True, capture_output=True)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "yaml")], ids=lambda p: p.name)
def test_configurations_of_the_page_are_valid(page, tmp_path):
    for text in configurations(page):
        path = tmp_path / "c.yaml"
        path.write_text(text)
        result = subprocess.run([MILLRACE, "config", "-c", path], capture_output=True, text=True, cwd=ROOT)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "json")], ids=lambda p: p.name)
def test_json_of_the_page_is_json(page):
    for text in blocks(page, "json"):
        json.loads(text)


# ---- links and paths -----------------------------------------------------------------------------

def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in [slug(h) for h in re.findall(r"^#+ (.*)", file.read_text(), re.M)], f"{page.name}: {target}"


@pytest.mark.parametrize("page", [*PAGES, MAN], ids=lambda p: p.name)
def test_files_that_are_named_exist(page):
    named = set(re.findall(r"`((?:" + "|".join(FOLDERS) + r")/[\w./-]*)`", page.read_text()))
    named |= set(re.findall(r"\bman (docs/\S+?)`", page.read_text()))
    for path in named:
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_every_page_is_reached_from_the_readme():
    reached = set(re.findall(r"\]\((docs/[\w.-]+\.md)\)", (ROOT / "README.md").read_text()))
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in reached, page.name


# ---- tables --------------------------------------------------------------------------------------

def test_the_configuration_page_is_what_the_program_prints():
    assert (ROOT / "docs" / "configuration.md").read_text() == cli("config", "--manual"), \
        "write it anew: millrace config --manual > docs/configuration.md"


def test_the_records_page_is_what_the_tables_say():
    program = BUILD / "tests" / "common" / "records_document"
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == \
        (ROOT / "docs" / "records.md").read_text(), "write it anew: records_document > docs/records.md"


def test_the_error_codes_of_the_socket_page_are_those_of_the_records():
    def rows(page):
        return re.findall(r"\| (`\w+` \| \d{3} \| (?:yes|no) \| .*) \|$", (ROOT / "docs" / page).read_text(), re.M)
    assert rows("socket.md") == rows("records.md") and len(rows("socket.md")) > 15


def leaves(settings, path=()):
    for key, value in settings.items():
        if isinstance(value, dict) and value and key != "models":
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key))


def test_every_setting_is_documented():
    text = (ROOT / "docs" / "configuration.md").read_text()
    for key in leaves(json.loads(cli("config", "--json"))):
        assert f"`{key}`" in text, key


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_settings_that_are_named_exist(page):
    schema = json.loads(cli("config", "--schema"))
    for key in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:: [^`]*)?`", page.read_text()):
        names = key.split(".")
        if names[0] not in schema["properties"] or "properties" not in schema["properties"][names[0]]:
            continue  # a file, a header, another program's word
        node = schema
        for name in names:
            node = node.get("items", node)
            assert name in node.get("properties", {}) or "additionalProperties" in node and \
                node["additionalProperties"] is not False, f"{page.name}: {key}"
            node = node["properties"][name] if name in node.get("properties", {}) else {}


# ---- the man page --------------------------------------------------------------------------------

def man_section(name, text=None):
    return re.search(rf"^\.Sh {name}\n(.*?)(?=^\.Sh |\Z)", text or MAN.read_text(), re.M | re.S).group(1)


def man_commands():
    parts = re.split(r"^\.Ss (\S+)\n", man_section("COMMANDS"), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def test_the_man_page_has_a_section_for_each_command_and_no_other():
    assert list(man_commands()) == re.findall(r"^  ([a-z]+) ", cli("--help"), re.M)


@pytest.mark.parametrize("command", list(man_commands()))
def test_the_man_page_has_the_options_of_each_command_and_no_other(command):
    general = {"--help", "--version"}
    helped = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", cli(command, "--help"))) - general
    lines = "\n".join(re.findall(r"^\.(?:It|Op) (.*)", man_commands()[command], re.M))
    manned = {f"-{o}" for o in re.findall(r"Fl (-[a-z][a-z-]*)", lines)} - general
    # `-s, --socket` and `-c, --config` are described once; a usage line has the short form.
    assert helped - manned == set() and manned - helped <= {"--socket", "--config"}, (helped, manned)


def test_the_man_page_names_the_environment():
    read = set()
    for folder in ("cli", "supervisor", "stages", "shm"):
        for source in [*(ROOT / folder).rglob("*.c"), *(ROOT / folder).rglob("*.cc")]:
            read |= set(re.findall(r"getenv\(\"([A-Z_]+)\"\)", source.read_text()))
    named = set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", man_section("ENVIRONMENT")))
    assert read - {"MILLRACE_FAULT"} == named  # fault points are no part of a release


def test_the_man_page_has_every_section():
    sections = re.findall(r"^\.Sh (.*)", MAN.read_text(), re.M)
    for name in ("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "SIGNALS", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES"):
        assert name in sections


def test_the_man_page_is_well_formed():
    if shutil.which("mandoc"):
        result = subprocess.run(["mandoc", "-T", "lint", "-W", "style", str(MAN)], capture_output=True, text=True)
        found = [line for line in result.stdout.splitlines() if "mandoc.db" not in line]
        assert found == []
    elif shutil.which("groff"):
        result = subprocess.run(["groff", "-mandoc", "-ww", "-z", str(MAN)], capture_output=True, text=True)
        assert result.returncode == 0 and result.stderr == ""
    else:
        pytest.skip("neither mandoc nor groff here")


# ---- installation --------------------------------------------------------------------------------

def test_what_is_installed_works_from_there(tmp_path):
    subprocess.run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", tmp_path / "root"], check=True,
                   capture_output=True, timeout=DEADLINE * 2)
    root = next((tmp_path / "root").rglob("bin/millrace")).parents[1]
    assert (root / "share" / "man" / "man1" / "millrace.1").exists()
    assert (root / "share" / "doc" / "millrace" / "configuration.md").exists()
    assert (root / "include" / "millrace" / "client.h").exists() and list(root.rglob("millrace.pc"))
    d = Daemon()
    d.command[0] = str(root / "bin" / "millrace")
    try:
        d.start()
        executables = {os.readlink(f"/proc/{s['pid']}/exe") for lane in d.status()["lanes"] for s in lane["stages"]}
        assert all(path.startswith(str(root / "libexec" / "millrace")) for path in executables), executables
    finally:
        d.finish()
