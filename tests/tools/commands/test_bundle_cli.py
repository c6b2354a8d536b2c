# SPDX-License-Identifier: Apache-2.0
"""`peft-dml bundle`: what it says, and what it refuses."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_tools.bundles.merged_bundle import write_merged
from tests.engines.stand_in import StandInCuda, stand_in_tensorrt
from tests.support.random_bundle import make_random_bundle


@pytest.fixture
def folder(tmp_path):
    return str(make_random_bundle(tmp_path / "random"))


def run(*arguments):
    done = CliRunner().invoke(app, ["bundle", *arguments])
    return done.exit_code, done.output.replace("\n", " ")


def test_info_names_precision_and_graphs(folder):
    code, text = run("info", folder)
    assert code == 0
    assert "fp32" in text
    assert "fusion" in text


def test_info_says_what_scores_compare_with_and_what_takes_adapters(folder, repository):
    assert "adapters: none; this bundle has no base.safetensors" in run("info", folder)[1]
    text = " ".join(run("info", str(repository / "models" / "base"))[1].split())
    for words in (
        " MiB: the weights of the graphs",
        "compare bundles on the same scenes only",
        "adapters: default, rain; default in use",
    ):
        assert words in text
    text = " ".join(run("info", str(repository / "models" / "demo"))[1].split())
    assert "weights.safetensors, 3.69 MiB: the weights of the graphs, the large ones in 8 bit" in text
    assert "adapters: none; this bundle has no base.safetensors" in text


def test_info_of_a_merged_bundle_asks_for_no_base(repository, tmp_path):
    merged = write_merged(load_bundle(repository / "models" / "base"), tmp_path / "merged")
    status, text = run("info", str(merged))
    assert status == 0
    assert "MiB: the weights of the graphs" not in text


def test_check_runs_every_graph(folder):
    assert run("check", folder)[0] == 0


def test_check_refuses_what_was_altered(folder):
    with Path(folder, "imu.onnx").open("ab") as file:
        file.write(b"x")
    code, text = run("check", folder)
    assert code == 2
    assert "imu.onnx" in text


def test_build_builds_once_and_info_lists_the_engines(folder, tmp_path, monkeypatch):
    cuda = StandInCuda("NVIDIA Orin")
    trt = stand_in_tensorrt(cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setenv("PEFT_DML_ENGINE_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        code, text = run("build", folder, "--precision", "fp32")
        assert code == 0, text
        assert trt.builds == 6
    assert "engine of lidar: TensorRT 10.3.0, NVIDIA Orin" in run("info", folder)[1]


@pytest.mark.parametrize(("precision", "reason"), [("fp17", "did you mean 'fp16'"), ("int8", "--precision int8")])
def test_build_refuses_another_precision(folder, precision, reason):
    code, text = run("build", folder, "--precision", precision)
    assert code == 2
    assert reason in text


def test_build_without_tensorrt_names_the_fix(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    code, text = run("build", folder)
    assert code == 2
    assert "pip install tensorrt" in text


def test_a_bundle_is_signed_and_verified(folder, tmp_path):
    pytest.importorskip("minisign")
    secret = tmp_path / "robot.key"
    code, text = run("keygen", str(secret))
    assert code == 0
    assert text.startswith("RW")
    public = str(secret.with_suffix(".pub"))
    assert run("verify-signature", folder, "--key", public)[0] == 2
    assert run("sign", folder, "--key", str(secret), "--comment", "release 1")[0] == 0
    code, said = run("verify-signature", folder, "--key", text.strip())
    assert code == 0
    assert said.strip().endswith("signed; release 1")
