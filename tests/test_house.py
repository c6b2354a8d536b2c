# SPDX-License-Identifier: Apache-2.0
"""The budgets and boundaries of the code base that ruff, mypy and import-linter do not check."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MESSAGES = re.compile(r"\w+_msgs|builtin_interfaces|rcl_interfaces|rclpy")


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


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_no_file_is_long() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert not {str(path): lines for path, lines in lengths.items() if lines > MAX_FILE_LINES}
    library = sorted(lines for path, lines in lengths.items() if "tests" not in path.parts)
    assert library[len(library) * 9 // 10] <= 300, "nine files of ten have at most 300 lines"


def test_no_function_is_long() -> None:
    long = []
    for path in sources("peft_dml_ros", "train", "interfaces", "launch"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                lines = (node.end_lineno or 0) - first.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name} has {lines} lines")
    assert not long


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
        ("torch", ("train",)),
        ("onnxruntime", ("peft_dml_ros/engines", "train")),
        ("tensorrt", ("peft_dml_ros/engines",)),
    ],
)
def test_frameworks_stay_at_home(package: str, home: tuple[str, ...]) -> None:
    allowed = {path for folder in (*home, "tests") for path in sources(folder)}
    assert not named([path for path in sources() if path not in allowed and package in imported(path)])


def test_ros_is_imported_in_nodes_only() -> None:
    allowed = {path for folder in ("peft_dml_ros/nodes", "launch", "tests") for path in sources(folder)}
    strays = [path for path in sources() if path not in allowed and any(map(MESSAGES.fullmatch, imported(path)))]
    assert not named(strays)
