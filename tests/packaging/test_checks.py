# SPDX-License-Identifier: Apache-2.0
"""The checks that guard the code base do bite, and continuous integration runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import peft_dml_ros

LINTER = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


ROOMS = {
    "peft_dml_ros": ("cli", "conversions", "core", "engines", "nodes"),
    "peft_dml_tools": (
        *("bench", "bundles", "chaos", "commands", "datasets", "demo", "drawing", "evaluation", "fleet", "live"),
        *("nodes", "report", "run", "sim"),
        *("map_origins", "markdown_pages", "measurement_source", "parameter_files", "atomic_files"),
    ),
    "peft_dml_train": (),
    "peft_dml_evidence": (),
}


def lint_with(repository: Path, folder: Path, stray: str, statement: str) -> subprocess.CompletedProcess[str]:
    """Run the import contracts on a skeleton of the packages in which the module `stray` holds `statement`."""
    for package, rooms in ROOMS.items():
        for path in (folder / package, *(folder / package / room for room in rooms)):
            path.mkdir()
            (path / "__init__.py").touch()
    (folder / stray).write_text(statement + "\n")
    config = repository / "pyproject.toml"
    command = [sys.executable, "-c", LINTER, "--config", str(config), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("stray", "statement", "contract"),
    [
        ("peft_dml_ros/core/stray.py", "import peft_dml_ros.cli", "Vehicle: cli, nodes"),
        ("peft_dml_ros/conversions/stray.py", "import peft_dml_ros.nodes", "Vehicle: cli, nodes"),
        ("peft_dml_ros/nodes/stray.py", "import peft_dml_tools.sim", "Nothing on the vehicle imports tools"),
        ("peft_dml_ros/nodes/stray.py", "import torch", "Nothing on the vehicle imports tools"),
        ("peft_dml_tools/sim/stray.py", "import peft_dml_tools.live", "Tools: commands -> demo"),
        ("peft_dml_tools/run/stray.py", "import peft_dml_train", "Tools do not import training"),
        ("peft_dml_train/stray.py", "import peft_dml_evidence", "Training does not import the evidence"),
        ("peft_dml_train/stray.py", "import peft_dml_ros.nodes", "Training stands on core"),
        ("peft_dml_ros/cli/stray.py", "import sensor_msgs.msg", "rclpy and messages only in nodes"),
        ("peft_dml_ros/core/stray.py", "import onnxruntime", "Inference runtimes only in engines"),
    ],
)
def test_import_contract_breaks(repository: Path, tmp_path: Path, stray: str, statement: str, contract: str) -> None:
    pytest.importorskip("importlinter")
    done = lint_with(repository, tmp_path, stray, statement)
    assert done.returncode == 1, done.stdout
    text = " ".join(done.stdout.split())  # long names are wrapped
    assert text.count(" BROKEN") == 1
    assert contract in text.partition(" BROKEN")[0].rpartition(" KEPT ")[2]


def test_import_contracts_hold_on_a_clean_skeleton(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    done = lint_with(repository, tmp_path, "peft_dml_ros/nodes/fine.py", "import rclpy, peft_dml_ros.engines")
    assert done.returncode == 0, done.stdout


def test_ci_runs_what_everybody_runs(repository: Path) -> None:
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "exec make test" in script.read_text()
    hosted = yaml.safe_load((repository / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step.get("run", "") for step in hosted["jobs"]["test"]["steps"]]
    assert any(step.startswith("make test") for step in steps)
    planned = subprocess.run(["make", "-n", "test"], cwd=repository, capture_output=True, text=True, check=True).stdout
    for check in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest"):
        assert check in planned


def test_pre_commit_runs_what_lint_runs(repository: Path) -> None:
    hooks = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    planned = subprocess.run(["make", "-n", "lint"], cwd=repository, capture_output=True, text=True, check=True).stdout
    for tool in ("ruff check", "ruff format", "mypy", "lint-imports"):
        assert f".venv/bin/{tool}" in planned
        assert any(hook["entry"].startswith(f".venv/bin/{tool}") for hook in hooks), tool


def test_citation_and_dev_container_are_complete(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license", "preferred-citation"} <= set(citation)
    assert citation["version"] == peft_dml_ros.__version__
    container = json.loads((repository / ".devcontainer" / "devcontainer.json").read_text())
    target = container["postCreateCommand"].removeprefix("make ")
    assert f"\n{target}: " in (repository / "Makefile").read_text()
