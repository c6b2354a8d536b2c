# SPDX-License-Identifier: Apache-2.0
"""The engine refuses what does not fit, by name."""

import numpy as np
import pytest

from peft_dml_ros.core.bundle import load_bundle, write_manifest
from peft_dml_ros.core.errors import BundleError, EngineError
from peft_dml_ros.engines import load_engines
from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine
from tests.support.random_bundle import make_random_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("bundles") / "random")


def test_inputs_are_checked_by_shape_and_dtype(folder):
    engine = OnnxRuntimeEngine(folder / "imu.onnx", threads=1)
    good = {name: np.zeros(shape, dtype=dtype) for name, (shape, dtype) in engine.inputs.items()}
    assert engine(good)["latent"].shape == (1, 32)
    for bad in ({}, {"window": np.zeros((3, 7), np.float32)}, {"window": good["window"].astype(np.float64)}):
        with pytest.raises(EngineError, match="window"):
            engine(bad)


def test_a_truncated_graph_is_named(folder, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((folder / "imu.onnx").read_bytes()[:200])
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        OnnxRuntimeEngine(broken)


def test_another_graph_under_a_right_hash_is_refused_by_name(folder, tmp_path):
    bundle = load_bundle(make_random_bundle(tmp_path / "other"))
    (bundle.path / "imu.onnx").write_bytes((bundle.path / "gnss.onnx").read_bytes())
    write_manifest(bundle.path, bundle.manifest)
    with pytest.raises(BundleError, match=r"imu\.onnx: its inputs are .*\(8, 6\).*manifest says.*\(32, 7\)"):
        load_engines(load_bundle(bundle.path))


def test_an_unknown_engine_is_refused_with_the_choices(folder):
    with pytest.raises(EngineError, match="onnxruntime"):
        load_engines(load_bundle(folder), "onnxrunttime")


def test_a_provider_that_is_not_there_is_named_once_per_graph_and_the_cpu_goes_on(folder, caplog):
    engine = OnnxRuntimeEngine(folder / "imu.onnx", threads=1, engine="onnxruntime-cuda")
    if "CUDAExecutionProvider" not in caplog.text:
        pytest.skip("this onnxruntime has CUDA")
    assert "install onnxruntime-gpu" in caplog.text
    assert engine({"window": np.zeros((32, 7), np.float32)})["latent"].shape == (1, 32)


def test_outputs_are_the_callers_own_and_runs_are_timed(folder):
    engine = OnnxRuntimeEngine(folder / "imu.onnx", threads=1)
    assert engine.elapsed_ms == 0.0
    first = engine({"window": np.ones((32, 7), np.float32)})["latent"]
    kept = first.copy()
    engine.warm_up()
    np.testing.assert_array_equal(first, kept)
    assert engine.elapsed_ms > 0.0
    assert engine.outputs == {"latent": ((1, 32), "float32")}
