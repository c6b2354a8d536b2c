# SPDX-License-Identifier: Apache-2.0
"""The budgets and boundaries of the code base that ruff, mypy and import-linter do not check."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MESSAGES = re.compile(r"\w+_msgs|builtin_interfaces|rcl_interfaces|rclpy")

ROOMS = {
    "peft_dml_ros": {"cli", "conversions", "core", "engines", "nodes"},
    "peft_dml_tools": {
        *("bench", "bundles", "chaos", "commands", "datasets", "demo", "drawing", "evaluation", "fleet", "live"),
        *("nodes", "report", "run", "sim"),
    },
    "train": {"configs", "peft_dml_evidence", "peft_dml_train", "recipes", "results"},
}
"""Packages and what is in each: the vehicle, the tools, training with its evidence."""
SOURCE_LINES_AT_MOST = 58_669
"""Lines of Python outside tests, all rooms together; only ever lowered, except for a new feature."""

TRACKED_BYTES = 21_500_000
"""Size of all tracked files, models and pictures included."""

UNUSED = re.compile(
    r"(?i)(?<![\w/.-])(?:mend(?:s|ed|ing)?|anew|ours|told|begun|spoilt|harmed|whichever|beside)(?![\w/])"
)
"""Words that are not used any more: write fix, again, of this project, reported, started, corrupt, any, next to."""
OPENING = re.compile(r"(?:Of|By|As|The same)\b.*")
"""Beginnings of one-line docstrings that are no sentences."""
NOUN = re.compile(r"(?:An?|The|Whether|Why|What|How)\b")
"""Beginnings of functions' docstrings that say neither what it does nor what it returns."""
UNUSED_AT_MOST: dict[str, int] = {
    # Retired names, which are refused with the new one named.
    "peft_dml_ros/conversions": 1,
    "train/peft_dml_evidence": 1,
    "tests/evidence": 1,
}
OPENINGS_AT_MOST: dict[str, int] = {}
"""Lines with unused words, and such docstrings, by room: 0 where none is named; only ever lowered."""


OWN_ERRORS = {f"{kind}Error" for kind in ("Benchmark", "Bundle", "Config", "Data", "Engine", "PeftDml", "Session")}
"""Errors that end a command or refuse a message; each names the fix."""


@cache
def committed() -> tuple[Path, ...]:
    """Return the files that are, or would be, committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(path for path in (REPOSITORY / name for name in names) if path.is_file())


def sources(*folders: str) -> list[Path]:
    """Return the Python files below `folders`, or all of them."""
    roots = [REPOSITORY / folder for folder in folders] or [REPOSITORY]
    return [path for path in committed() if path.suffix == ".py" and any(root in path.parents for root in roots)]


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(REPOSITORY)) for path in paths]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> set[str]:
    """Return the top-level packages that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def limits() -> list[int]:
    """Return the limits that CONTRIBUTING states: median, ninth decile and maximum of a file, function, vehicle."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    stated = re.search(
        r"half of the files have at most (\d+) lines, nine of ten at most (\d+), none over (\d+);"
        r" functions have at most (\d+)\.\s+`peft_dml_ros` has at most ([\d,]+) lines",
        text,
    )
    assert stated, "CONTRIBUTING states the limits in these words"
    return [int(number.replace(",", "")) for number in stated.groups()]


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def room_of(path: Path) -> str:
    """Return `package/room` of a source, `tests/room` of a test, else the first folder or the file's name."""
    parts = path.relative_to(REPOSITORY).parts
    return "/".join(parts[: min(2, len(parts) - 1) or 1])


def test_no_file_is_long() -> None:
    median, ninth, most, _, _ = limits()
    lengths = {path: lines_of(path) for path in sources()}
    assert not {str(path): lines for path, lines in lengths.items() if lines > most}
    library = sorted(lines for path, lines in lengths.items() if "tests" not in path.parts)
    assert library[len(library) // 2] <= median
    assert library[len(library) * 9 // 10] <= ninth


def test_vehicle_and_sources_stay_small() -> None:
    *_, vehicle = limits()
    assert sum(map(lines_of, sources("peft_dml_ros"))) <= vehicle
    assert sum(lines_of(path) for path in sources() if "tests" not in path.parts) <= SOURCE_LINES_AT_MOST


def test_a_clone_stays_small() -> None:
    assert sum(path.stat().st_size for path in committed()) < TRACKED_BYTES


def test_vehicle_holds_what_its_node_loads() -> None:
    modules = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path for path in sources("peft_dml_ros")}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    loaded: set[str] = set()
    waiting = ["peft_dml_ros.nodes.perception", "peft_dml_ros.cli.main", "peft_dml_ros.cli.node"]
    while waiting:
        name = waiting.pop()
        if name in modules and name not in loaded:
            loaded.add(name)
            waiting.append(name.rpartition(".")[0])
            for node in ast.walk(tree(modules[name])):
                if isinstance(node, ast.ImportFrom) and node.module:
                    waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    assert set(modules) == loaded, "what no node loads belongs to the tools"


def test_no_function_is_long() -> None:
    *_, most, _ = limits()
    long = []
    for path in sources(*ROOMS, "interfaces", "launch", "docs"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                if lines > most:
                    long.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name} has {lines} lines")
    assert not long


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_are_those_of_the_plan(package: str) -> None:
    folder = REPOSITORY / package
    found = {path.relative_to(folder).parts[0] for path in committed() if folder in path.parents}
    assert {name for name in found if (folder / name).is_dir()} == ROOMS[package]


def test_tests_mirror_the_sources() -> None:
    tests = REPOSITORY / "tests"
    homes = {
        "tools": REPOSITORY / "peft_dml_tools",
        "train": REPOSITORY / "train",
        "evidence": REPOSITORY / "train" / "peft_dml_evidence",
    }
    roots = {path.name for path in REPOSITORY.iterdir() if path.is_dir()}
    for room in {path.relative_to(tests).parts[0] for path in sources("tests") if path.parent != tests}:
        assert room in {*ROOMS["peft_dml_ros"], *homes, *roots, "packaging", "support"}, f"tests/{room}"
    for path in sources("tests/tools"):
        room = path.relative_to(tests / "tools").parts[0]
        assert room in ROOMS["peft_dml_tools"] or path.parent == tests / "tools", path


def test_unused_words() -> None:
    kinds = {".py", ".md", ".rst", ".toml", ".yaml", ".yml", ".xml", ".cfg", ".html", ".js"}
    hits: dict[str, list[str]] = {}
    for path in committed():
        if path.suffix in kinds and path not in {Path(__file__), REPOSITORY / "CHANGELOG.rst"}:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if UNUSED.search(line):
                    hits.setdefault(room_of(path), []).append(
                        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
                    )
    too_many = {room: found for room, found in hits.items() if len(found) > UNUSED_AT_MOST.get(room, 0)}
    assert not too_many


def test_one_line_docstrings_are_sentences() -> None:
    hits: dict[str, list[str]] = {}
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if OPENING.fullmatch(text):
                    line = getattr(node, "lineno", 1)
                    hits.setdefault(room_of(path), []).append(f"{path.relative_to(REPOSITORY)}:{line}: {text}")
    too_many = {room: found for room, found in hits.items() if len(found) > OPENINGS_AT_MOST.get(room, 0)}
    assert not too_many


def test_a_class_name_has_one_meaning() -> None:
    homes: dict[str, list[str]] = {}
    for path in sources(*ROOMS):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(REPOSITORY)))
    assert not {name: found for name, found in homes.items() if len(found) > 1}


def test_docstrings_of_functions_say_what_these_do() -> None:
    hits = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}: {ast.get_docstring(node)}"
        for path in sources(*ROOMS, "docs")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef)
        and NOUN.match(ast.get_docstring(node) or "")
        and not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    assert not hits


def test_nothing_is_defined_that_nothing_uses() -> None:
    texts = {
        p: p.read_text(encoding="utf-8") for p in committed() if p.suffix in {".py", ".md", ".toml", ".yaml", ".sh"}
    }
    counts: Counter[str] = Counter()
    for path, text in texts.items():
        if REPOSITORY / "tests" not in path.parents:
            counts.update(re.findall(r"\w+", text))
    unused = []
    for path in sources(*ROOMS):
        for node in tree(path).body:
            # What a decorator registers is called by nobody here.
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.decorator_list:
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            else:
                names = (
                    [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []
                )
            unused += [f"{path.relative_to(REPOSITORY)}: {name}" for name in names if counts[name] < 2]
    assert not [entry for entry in unused if not entry.endswith("__")]


def strings(node: ast.AST) -> str:
    return "\n".join(n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str))


def words_of(node: ast.AST, known: dict[str, list[ast.AST]], seen: frozenset[str] = frozenset()) -> str:
    """Return the texts of an expression, and of the variables, constants and functions that it uses."""
    used = [n for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)]
    names = {n.id if isinstance(n, ast.Name) else n.attr for n in used}
    inner = (words_of(n, known, seen | names) for name in names - seen for n in known.get(name, ()))
    return "\n".join(["fix: the nearest" if "nearest" in names else "", strings(node), *inner])


def values_before(body: ast.AST, line: int) -> dict[str, list[ast.AST]]:
    """Return what each variable holds at a line: its last assignment, and what was added to it since."""
    held: dict[str, list[ast.AST]] = {}
    found = [n for n in ast.walk(body) if isinstance(n, ast.Assign | ast.AnnAssign | ast.AugAssign) and n.lineno < line]
    for node in sorted(found, key=lambda n: n.lineno):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and node.value is not None:
                held[target.id] = [*(held.get(target.id, ()) if isinstance(node, ast.AugAssign) else ()), node.value]
    return held


def test_errors_name_the_fix() -> None:
    bare = []
    for path in sources(*ROOMS):
        functions = [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef)]
        constants = [n for n in tree(path).body if isinstance(n, ast.Assign | ast.AnnAssign)]
        shared = {n.name: [n] for n in functions} | values_before(ast.Module(constants, []), sys.maxsize)
        for body in functions:
            defaults = zip(reversed(body.args.args), reversed(body.args.defaults), strict=False)
            given = {argument.arg: [value] for argument, value in defaults}
            for node in ast.walk(body):
                error = node.exc if isinstance(node, ast.Raise) else None
                if isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id in OWN_ERRORS:
                    known = shared | given | values_before(body, node.lineno)
                    words = "".join(words_of(part, known) for part in error.args)
                    if not re.search("fix: |hint: ", words):
                        bare.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}: {words[:80]}")
    assert not bare


def test_every_file_names_its_licence() -> None:
    kinds = {".py", ".msg", ".toml", ".yaml", ".yml", ".xml", ".sh", ".cfg"}
    kept = [path for path in committed() if path.suffix in kinds and path.stat().st_size]
    opened = {path: path.read_text(encoding="utf-8").splitlines()[:3] for path in kept}
    bare = [
        path for path, lines in opened.items() if not any("SPDX-License-Identifier: Apache-2.0" in x for x in lines)
    ]
    assert not named(bare)


def test_no_machine_paths() -> None:
    # Spelled so that this file does not match itself.
    machine = re.compile(r"(?<![\w.])/" + r"(?:work|root|home/\w+|mnt|opt/(?!ros\b)\w+)" + r"/")
    texts = {".py", ".md", ".toml", ".yaml", ".yml", ".xml", ".txt", ".cfg", ".json", ".rviz", ".msg", ""}
    hits = []
    for path in committed():
        if path.suffix in texts and path.stat().st_size < 1_000_000:
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), 1):
                if machine.search(line):
                    hits.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:80]}")
    assert not hits


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("torch", ("train", "bench")),
        ("onnxruntime", ("peft_dml_ros/engines", "train")),
        ("openvino", ("peft_dml_ros/engines",)),
        ("tensorrt", ("peft_dml_ros/engines",)),
        ("tensorrt_rtx", ("peft_dml_ros/engines",)),
        ("trimesh", ("peft_dml_tools/sim",)),
        ("embreex", ("peft_dml_tools/sim",)),
        ("nuscenes", ("peft_dml_tools", "train")),
        ("matplotlib", ("peft_dml_tools", "train", "docs")),
        ("minisign", ("peft_dml_ros/core", "peft_dml_tools/bundles")),
    ],
)
def test_frameworks_stay_at_home(package: str, home: tuple[str, ...]) -> None:
    allowed = {path for folder in (*home, "tests") for path in sources(folder)}
    assert not named([path for path in sources() if path not in allowed and package in imported(path)])


def test_ros_is_imported_in_nodes_only() -> None:
    allowed = {
        path for folder in ("peft_dml_ros/nodes", "peft_dml_tools/nodes", "launch", "tests") for path in sources(folder)
    }
    strays = [path for path in sources() if path not in allowed and any(map(MESSAGES.fullmatch, imported(path)))]
    assert not named(strays)
