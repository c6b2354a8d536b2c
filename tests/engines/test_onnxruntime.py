# SPDX-License-Identifier: Apache-2.0
"""The engine refuses what does not fit, by name."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import BundleError, EngineError
from peft_dml_ros.engines import load_engines, onnxruntime, tensorrt_library
from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine
from peft_dml_tools.bundles.manifest import write_manifest
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


def _with_weights_outside(source: Path, target: Path, where: str) -> None:
    """The graph with one tensor's values in `target`.bin: an initialiser, or the value of a Constant node."""
    model = onnx.load(source)
    values = np.ones(4, np.float32)
    tensor = onnx.numpy_helper.from_array(values, "elsewhere")
    target.with_suffix(".bin").write_bytes(values.tobytes())
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=target.with_suffix(".bin").name)
    if where == "initialiser":
        model.graph.initializer.append(tensor)
    else:
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["unused"], value=tensor))
    target.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("where", ["initialiser", "constant"])
def test_weights_in_another_file_are_refused_by_name_before_the_runtime_sees_them(folder, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    graph = tmp_path / "imu.onnx"
    _with_weights_outside(folder / "imu.onnx", graph, where)
    # The runtime itself would take the file in the working directory.
    ort.InferenceSession(graph.read_bytes(), providers=["CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", None)
    with pytest.raises(EngineError, match=r"imu\.onnx refused: its tensor 'elsewhere' lies in another file"):
        OnnxRuntimeEngine(graph)


def test_another_graph_under_a_right_hash_is_refused_by_name(folder, tmp_path):
    bundle = load_bundle(make_random_bundle(tmp_path / "other"))
    (bundle.path / "imu.onnx").write_bytes((bundle.path / "gnss.onnx").read_bytes())
    write_manifest(bundle.path, bundle.manifest)
    with pytest.raises(BundleError, match=r"imu\.onnx: its inputs are .*\(8, 6\).*manifest says.*\(32, 7\)"):
        load_engines(load_bundle(bundle.path))


def test_an_unknown_engine_is_refused_with_the_choices(folder):
    with pytest.raises(EngineError, match="onnxruntime"):
        load_engines(load_bundle(folder), "onnxrunttime")


def test_a_provider_that_is_not_there_is_named_once_and_the_cpu_goes_on(folder, caplog):
    onnxruntime._available.cache_clear()
    OnnxRuntimeEngine(folder / "gnss.onnx", threads=1, engine="onnxruntime-cuda")
    engine = OnnxRuntimeEngine(folder / "imu.onnx", threads=1, engine="onnxruntime-cuda")
    if "CUDAExecutionProvider" not in caplog.text:
        pytest.skip("this onnxruntime has CUDA")
    assert caplog.text.count("install onnxruntime-gpu") == 1
    assert engine({"window": np.zeros((32, 7), np.float32)})["latent"].shape == (1, 32)


def test_the_plug_in_provider_says_what_it_lacks_and_the_cpu_goes_on(folder, caplog, monkeypatch):
    """With the wheel, the line names the driver's library; without, what to install."""
    if any("nvidia" in str(path) for path in Path("/proc/driver").glob("*")):
        pytest.skip("this machine has NVIDIA's driver")
    for wheel, reason in (
        ("onnxruntime_ep_nv_tensorrt_rtx", r"install NVIDIA's driver \(libcuda\.so\.1"),
        ("no_such_wheel", r"pip install 'peft_dml_ros\[tensorrt-rtx\]'"),
    ):
        if find_spec(wheel) is None and wheel.startswith("onnx"):
            continue
        caplog.clear()
        monkeypatch.setattr(tensorrt_library, "RTX_WHEEL", wheel)
        onnxruntime._available.cache_clear()
        engine = OnnxRuntimeEngine(folder / "imu.onnx", threads=1, engine="onnxruntime-tensorrt-rtx")
        assert re.search(f"no NvTensorRTRTXExecutionProvider here; fix: {reason}.*going on with CPU", caplog.text)
        assert engine({"window": np.zeros((32, 7), np.float32)})["latent"].shape == (1, 32)
    onnxruntime._available.cache_clear()


def test_outputs_are_the_callers_own_and_runs_are_timed(folder):
    engine = OnnxRuntimeEngine(folder / "imu.onnx", threads=1)
    assert engine.elapsed_ms == 0.0
    first = engine({"window": np.ones((32, 7), np.float32)})["latent"]
    kept = first.copy()
    engine.warm_up()
    np.testing.assert_array_equal(first, kept)
    assert engine.elapsed_ms > 0.0
    assert engine.outputs == {"latent": ((1, 32), "float32")}
