# SPDX-License-Identifier: Apache-2.0
"""The checks that guard the code base do bite, and continuous integration runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LINTER = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def lint_with(repository: Path, folder: Path, stray: str, statement: str) -> subprocess.CompletedProcess[str]:
    """Run the import contracts on a skeleton of the package in which the module `stray` holds `statement`."""
    for part in ("cli", "bench", "nodes", "datasets", "sim", "engines", "core"):
        (folder / "peft_dml_ros" / part).mkdir(parents=True)
        (folder / "peft_dml_ros" / part / "__init__.py").touch()
    (folder / "peft_dml_train").mkdir()
    for package in ("peft_dml_ros", "peft_dml_train"):
        (folder / package / "__init__.py").touch()
    (folder / stray).write_text(statement + "\n")
    config = repository / "pyproject.toml"
    command = [sys.executable, "-c", LINTER, "--config", str(config), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("stray", "statement", "contract"),
    [
        (
            "peft_dml_ros/core/stray.py",
            "import peft_dml_ros.cli",
            "cli -> bench, nodes -> datasets, sim, engines -> core",
        ),
        (
            "peft_dml_tools/sim/stray.py",
            "import peft_dml_ros.engines",
            "cli -> bench, nodes -> datasets, sim, engines -> core",
        ),
        ("peft_dml_ros/nodes/stray.py", "import torch", "Nothing that runs on the vehicle imports training"),
        ("peft_dml_ros/cli/stray.py", "import sensor_msgs.msg", "rclpy and messages only in nodes"),
        ("peft_dml_ros/core/stray.py", "import onnxruntime", "Inference runtimes only in engines"),
        ("peft_dml_train/stray.py", "import peft_dml_ros.nodes", "Training imports neither nodes nor commands"),
    ],
)
def test_import_contract_breaks(repository: Path, tmp_path: Path, stray: str, statement: str, contract: str) -> None:
    pytest.importorskip("importlinter")
    done = lint_with(repository, tmp_path, stray, statement)
    assert done.returncode == 1, done.stdout
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert len(broken) == 1
    assert broken[0].startswith(contract)


def test_import_contracts_hold_on_a_clean_skeleton(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    done = lint_with(repository, tmp_path, "peft_dml_ros/nodes/fine.py", "import rclpy, peft_dml_ros.engines")
    assert done.returncode == 0, done.stdout


def test_ci_runs_what_everybody_runs(repository: Path) -> None:
    script = repository / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "exec make test" in script.read_text()
    planned = subprocess.run(["make", "-n", "test"], cwd=repository, capture_output=True, text=True, check=True).stdout
    for check in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest"):
        assert check in planned
