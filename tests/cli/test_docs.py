# SPDX-License-Identifier: Apache-2.0
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from peft_dml_ros.cli.main import app as peft_dml
from peft_dml_ros.core.health import State
from peft_dml_ros.core.params import describe
from peft_dml_ros.nodes.interface import STAGES
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.node_interface import SERVICES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (
        *(ROOT / "docs").glob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "QUALITY_DECLARATION.md",
    )
)
PASSED_ON = ("-p", "-r")
"""Options that `peft-dml node` hands on to ROS, each with a value."""


def test_tables_made_from_code_are_up_to_date(repository):
    script = runpy.run_path(str(repository / "docs" / "make_tables.py"))
    for page in script["PAGES"]:
        text = (repository / "docs" / page).read_text(encoding="utf-8")
        assert text == script["filled"](page), "run docs/make_tables.py"
        assert all(f"<!-- {name}: made by docs/make_tables.py -->" in text for name in script["PAGES"][page])


def test_topics_page_names_every_stage_and_service(repository):
    text = (repository / "docs" / "topics.md").read_text(encoding="utf-8")
    for names in (STAGES, SERVICES):
        assert ", ".join(f"`{name}`" for name in names) in text


def section(page, title):
    """The names in the first column of the table under a title, without back quotes."""
    below = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return {row.split(" | ")[0].strip("|` ") for row in re.findall(r"^\| .*", below, flags=re.MULTILINE)[1:]}


def test_every_state_is_explained(repository):
    page = (repository / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert section(page, "States of a sensor") == {state.value for state in State}


def test_every_reason_for_a_drop_is_explained(repository):
    page = (repository / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    explained = section(page, "Reasons for drops")
    counted = re.compile(r'(?:Refusal\(|drops\.count\(|drops\[|self\._reset\()f?"([^"]+)"')
    returned = re.compile(r'return f?"([a-z: ]+(?:\{name\})?)"')
    package, found = repository / "peft_dml_ros", set()
    for path in (*(package / "core").glob("*.py"), *(package / "nodes").glob("[!c]*.py")):
        text = path.read_text(encoding="utf-8")
        checks = "".join(text.partition(f"def {name}")[2] for name in ("poor_points", "poor_picture", "_load("))
        found |= {*counted.findall(text), *returned.findall(checks)}
    # A name in braces stands before or after the words, as in "{name}: malformed".
    reasons = {re.sub(r"\{[^}]*\}", "", reason).strip(" :") for reason in found} - {""}
    known = {key.removesuffix(" …") for key in explained}
    wanted = {"malformed", "frozen", "dark image", "camera: corrupt image", "frame: superseded", "on probation after"}
    assert wanted <= reasons
    missing = [r for r in reasons if not any(r == key or r.endswith(f": {key}") for key in known)]
    assert not missing, "explain them in docs/troubleshooting.md"


def test_site_builds_without_a_broken_link(repository, tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=repository, env=quiet, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "troubleshooting" / "index.html").is_file()


def test_site_lists_every_page(repository):
    site = yaml.safe_load((repository / "mkdocs.yml").read_text(encoding="utf-8"))

    def pages(entries):
        for entry in entries:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else pages(value)

    assert sorted(pages(site["nav"])) == sorted(path.name for path in (repository / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(repository, page):
    folder = (repository / page).parent
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (repository / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (folder / target).exists(), f"{page}: {target}"


def command_lines(text):
    """Every shell command of a page, from fenced blocks and from the text, without comments and continuations."""
    fenced = re.findall(r"^```(?:bash|sh|)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`((?:peft-dml|peft-dml-train|ros2|make) [^`\n]+)`", text)
    for block in (*fenced, *inline):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.partition(" #")[0].strip()


def resolve(app, words):
    """The command that words lead to, and the words that are left. Typer has a click of its own, or the usual one."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "resolve_command") and rest:
        _, command, _ = command.resolve_command(command.context_class(command), [rest[0]])
        rest = rest[1:]
    return command, rest


def refusal(app, words):
    """What the command says to options that it does not have, or that lack a value; empty when it takes them."""
    command, given = resolve(app, words)
    if words[0] == "node":
        given = [w for i, w in enumerate(given) if w not in PASSED_ON and (not i or given[i - 1] not in PASSED_ON)]
    try:
        command.make_parser(command.context_class(command)).parse_args([w for w in given if w != "--help"])
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return error.format_message()
    return ""


def is_mention(said):
    """The text may name an option without giving it a value."""
    return said.endswith("requires an argument.")


def test_an_option_that_does_not_exist_is_seen():
    assert "--nonsense" in refusal(peft_dml, ["run", "drive.mcap", "--nonsense"])
    assert refusal(peft_dml, ["bundle", "sign", "demo", "--key"])
    assert not refusal(peft_dml, ["bundle", "sign", "demo", "--key", "x"])


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_docs_take_what_they_are_given(repository, page):
    trainer = pytest.importorskip("peft_dml_train.cli").app
    apps = {"peft-dml": peft_dml, "peft-dml-train": trainer}
    for line in command_lines((repository / page).read_text(encoding="utf-8")):
        name, _, rest = line.partition(" ")
        if name not in apps or "…" in line or rest in {"", "--help"}:
            continue
        words = shlex.split(re.split(r" (?:\||&&|>) ", rest)[0])
        if words[0].startswith("-") or not re.fullmatch("[a-z-]+", words[0]):
            continue
        assert not (said := refusal(apps[name], words)) or is_mention(said), f"{page}: {line}: {said}"


@pytest.mark.parametrize("page", PAGES)
def test_launch_arguments_targets_and_scripts_in_the_docs_exist(repository, page):
    targets = set(
        re.findall(r"^([a-z0-9-]+):", (repository / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    arguments = {}
    for path in (repository / "launch").glob("*.launch.py"):
        arguments[path.name] = set(
            re.findall(r'^    \(\n?\s*"([\w/]+)"', path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        )
    arguments["perception.launch.py"] |= arguments["replay.launch.py"]
    parameters = {info.name for info in describe(NodeParams)} | {"use_sim_time"}
    for line in command_lines((repository / page).read_text(encoding="utf-8")):
        words = line.split()
        if line.startswith("ros2 launch peft_dml_ros"):
            given = {word.partition(":=")[0] for word in words[4:] if ":=" in word}
            assert given <= arguments[words[3]], line
        elif line.startswith("make ") and "=" not in words[1]:
            assert words[1] in targets, line
        elif line.startswith("python docs/"):
            assert (repository / words[1]).is_file(), line
        elif line.startswith("ros2 param set /perception"):
            assert words[4] in parameters, line


def test_readme_is_short(repository):
    assert len((repository / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
