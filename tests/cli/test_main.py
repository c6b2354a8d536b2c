# SPDX-License-Identifier: Apache-2.0
import errno
import os
import signal
import subprocess
import sys
from importlib import import_module

import pytest
from typer.testing import CliRunner

from peft_dml_ros import __version__
from peft_dml_ros.cli.main import TOOLS, app, commands
from peft_dml_tools.commands import COMMANDS as TOOL_COMMANDS


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "peft_dml_ros.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.alone
def test_help_lists_all_commands_fast():
    times_s = []
    for _ in range(5):
        before_s = os.times().children_user
        text = command("--help").stdout
        times_s.append(os.times().children_user - before_s)
    assert all(name in text for name in (*commands(), "version"))
    # Of user time, 0.3 s on a quiet machine; other processes of a suite take from its caches.
    assert min(times_s) < 0.45


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from peft_dml_ros.cli.main import app;"
        "CliRunner().invoke(app, ['--help']);"
        "print(sorted({'numpy', 'cv2', 'onnxruntime', 'pydantic', 'rclpy', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", commands())
def test_each_command_has_help_of_its_own(name):
    done = CliRunner().invoke(app, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert "--help" in done.output


@pytest.mark.parametrize(
    ("code", "fix"), [(errno.ENOSPC, "free space"), (errno.EROFS, "can be written to"), (errno.EACCES, "permissions")]
)
def test_errors_of_the_file_system_name_a_fix(monkeypatch, code, fix):
    def load(name: str) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("peft_dml_ros.cli.main._load", load)
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 2
    assert fix in done.output


def test_a_vehicle_without_the_tools_says_what_to_install():
    code = (
        "import sys; sys.modules['peft_dml_tools'] = None; from peft_dml_ros.cli import main;"
        "assert main.commands().keys() == main.COMMANDS.keys(); main.app()"
    )
    for name in ("doctor", "demo", "status"):
        done = subprocess.run(
            [sys.executable, "-c", code, name], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2, done.stderr
        assert f"'peft-dml {name}' belongs to the tools" in done.stderr
        assert "pip install" in done.stderr


def test_the_vehicle_knows_every_command_of_the_tools():
    assert set(TOOLS) == set(TOOL_COMMANDS)


def test_version():
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == __version__
    assert CliRunner().invoke(app, ["version"]).stdout.strip() == __version__


def test_unknown_command_names_the_nearest():
    done = command("dmeo")
    assert done.returncode == 2
    assert "demo" in done.stderr


def test_expected_errors_are_one_line_without_a_traceback():
    done = command("run", "no-such-bag.mcap")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert "no-such-bag.mcap" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_named_without_a_traceback(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("")
    done = command("simulate", "--scenes", "1", "--seconds", "1.5", "--out", str(taken / "data"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(taken) in done.stderr


@pytest.mark.parametrize("package", ["peft_dml_ros.cli", "peft_dml_train"])
def test_an_interrupt_while_python_imports_is_quiet(package):
    code = f"from {package} import start; start()"
    command = [sys.executable, "-X", "importtime", "-c", code, "--help"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert any(line.endswith("importlib.metadata\n") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert all(line.startswith("import time:") for line in rest.splitlines()), rest


@pytest.mark.parametrize("main", ["peft_dml_ros.cli.main", "peft_dml_train.cli"])
def test_both_commands_end_alike(main, tmp_path):
    group, words = import_module(main).app, ["evaluate"] if "train" in main else ["fleet", "evaluate"]
    option = ["--data"] if "train" in main else []
    for arguments in ([*words, *option, str(tmp_path / "none")], [*words, "--nonsense"]):
        assert CliRunner().invoke(group, arguments).exit_code == 2


@pytest.mark.parametrize(
    ("module", "fix"),
    [
        ("trimesh.ray", "fix: pip install 'peft_dml_ros[sim]'"),
        ("diagnostic_msgs", "fix: source ROS's setup.bash, or pip"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch, module, fix):
    def load(name: str) -> None:
        raise ModuleNotFoundError(name=module)

    monkeypatch.setattr("peft_dml_ros.cli.main._load", load)
    done = CliRunner().invoke(app, ["simulate"])
    assert done.exit_code == 2
    assert fix in " ".join(done.output.split())
