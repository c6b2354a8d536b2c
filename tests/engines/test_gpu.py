# SPDX-License-Identifier: Apache-2.0
"""On a machine with an NVIDIA GPU: every engine that loads there finds the boxes that ONNX Runtime finds on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.engines import load_engines
from tests.core.test_inputs import full_snapshot
from tests.support import scenes

ROOT = Path(__file__).parents[2]


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["tensorrt-rtx", "tensorrt"])
def test_a_gpu_finds_the_same_boxes_and_gives_its_memory_back(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("PEFT_DML_ENGINE_CACHE", str(tmp_path))
    bundle = load_bundle("demo")
    try:
        engines = load_engines(bundle, engine, precision="fp32")
    except EngineError as error:
        pytest.skip(str(error))
    detector = Detector(bundle, scenes.rig(), engines)
    detector.warm_up()
    other = Detector(bundle, scenes.rig(), load_engines(bundle, precision="fp32"))
    for absent in ((), ("lidar",), ("camera",), ("radar", "imu")):
        found, wanted = (d(full_snapshot().without(*absent)).boxes for d in (detector, other))
        assert len(found) == len(wanted)
        # Products are rounded to TF32 on such cards.
        np.testing.assert_allclose(found.centers_m, wanted.centers_m, atol=0.05)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=0.02)


def test_the_device_script_runs_and_names_what_is_missing(tmp_path):
    """Without a GPU it says so in one line for each engine; the same steps run on the CPU's engine."""
    out = tmp_path / "gpu.json"
    command = [sys.executable, "bench/gpu.py", "--repeats", "2", "--out", str(out), "--engine", "tensorrt-rtx"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PEFT_DML_ENGINE_CACHE": str(tmp_path)}
    done = subprocess.run(
        [*command, "onnxruntime"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "tensorrt-rtx: " in done.stdout
    assert "use engine: onnxruntime" in done.stdout
    assert "onnxruntime: over 31 subsets at least" in done.stdout
    report = json.loads(out.read_text())
    found = report["engines"]["onnxruntime"]
    assert found["equal"]
    assert set(found["ms"]) == {"lidar", "camera", "radar", "imu", "gnss", "fusion", "frame"}
    assert found["ms"]["frame"]["p50"] > 0
    assert report["card"] == "none"
