# SPDX-License-Identifier: Apache-2.0
"""OpenVINO finds the boxes that ONNX Runtime finds, and `auto` takes what is fastest here."""

import json
import logging
import sys
from time import sleep

import numpy as np
import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.errors import BundleError, EngineError
from peft_dml_ros.core.inputs import InputAssembler
from peft_dml_ros.engines import load_engines, selection, suitable_precision
from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine
from peft_dml_ros.engines.selection import choose_engine
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from tests.core.test_inputs import full_snapshot
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle

ABSENT = ((), ("lidar",), ("camera", "gnss"), ("radar",), ("lidar", "radar"))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle("demo")


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino")


def detectors(bundle, rig, *chosen):
    """Detectors by (engine, precision), with one thread: results must not depend on more."""
    return [Detector(bundle, rig, load_engines(bundle, e, 1, p), threads=1) for e, p in chosen]


def assert_same_boxes(found, expected, atol):
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=atol)
    np.testing.assert_allclose(found.centers_m, expected.centers_m, atol=20 * atol)
    np.testing.assert_allclose(found.yaws_rad, expected.yaws_rad, atol=20 * atol)


def test_boxes_are_equal_to_onnx_runtimes_when_32_bit_is_asked_for(bundle, openvino):
    found, expected = detectors(bundle, scenes.rig(), ("openvino", "fp32"), ("onnxruntime", "fp32"))
    for absent in ABSENT:
        snapshot = full_snapshot().without(*absent)
        assert_same_boxes(found(snapshot).boxes, expected(snapshot).boxes, atol=1e-4)


def test_boxes_are_equal_on_a_real_frame(bundle, openvino, real_keyframe):
    reader = NuScenesReader(real_keyframe)
    token = reader.samples(next(iter(reader.scenes)))[0]
    found, expected = detectors(bundle, reader.rig(token), ("openvino", "fp32"), ("onnxruntime", "fp32"))
    snapshot = reader.snapshot(token, bundle.spec)
    assert_same_boxes(found(snapshot).boxes, expected(snapshot).boxes, atol=1e-4)


def test_equal_scores_come_in_the_order_that_onnx_asks_for(bundle, openvino):
    """Latents of zeros give a flat heat map, all of whose peaks are equal."""
    engine, reference = (load_engines(bundle, e, 1, "fp32")["fusion"] for e in ("openvino", "onnxruntime"))
    for mask in ((1, 1, 1, 1, 1), (0, 0, 1, 0, 0)):
        feeds = {name: np.zeros(shape, dtype) for name, (shape, dtype) in reference.inputs.items()}
        feeds |= {"mask": np.array(mask, np.float32), "completeness": np.array(mask, np.float32)}
        found, wanted = engine(feeds), reference(feeds)
        assert (np.diff(wanted["scores"]) == 0).sum() > 50
        np.testing.assert_array_equal(found["cells"], wanted["cells"])
        np.testing.assert_array_equal(found["labels"], wanted["labels"])


def test_latents_in_bfloat16_are_near(bundle, openvino):
    frame = InputAssembler(bundle.spec, scenes.rig())(full_snapshot())
    found, expected = (
        load_engines(bundle, *chosen) for chosen in (("openvino", 1, "auto"), ("onnxruntime", 1, "fp32"))
    )
    for modality in MODALITIES:
        a, b = (e[modality](frame.feeds[modality])["latent"] for e in (found, expected))
        assert (a * b).sum(axis=1).mean() > 0.999, modality
        assert a.shape == b.shape
        assert found[modality].outputs == expected[modality].outputs
        assert found[modality].elapsed_ms > 0


def test_outputs_are_the_callers_own_and_inputs_are_checked(bundle, openvino):
    engine = load_engines(bundle, "openvino", 1)["imu"]
    first = engine({"window": np.ones((32, 7), np.float32)})["latent"]
    kept = first.copy()
    engine.warm_up()
    np.testing.assert_array_equal(first, kept)
    with pytest.raises(EngineError, match="window"):
        engine({"window": np.zeros((3, 7), np.float32)})


def test_without_the_module_it_is_named_with_the_fix(bundle, monkeypatch):
    from peft_dml_ros.engines.openvino import load_openvino

    load_openvino.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match=r"pip install 'peft_dml_ros\[openvino\]', or use engine: onnxruntime"):
        load_engines(bundle, "openvino")
    load_openvino.cache_clear()


def test_a_damaged_graph_is_named(openvino, tmp_path):
    broken = make_random_bundle(tmp_path / "random")
    bundle = load_bundle(broken)
    (broken / "imu.onnx").write_bytes((broken / "imu.onnx").read_bytes()[:200])
    with pytest.raises(BundleError, match=r"imu\.onnx"):
        load_engines(bundle, "openvino")


class Slow:
    """An engine that takes its time."""

    def __init__(self, seconds):
        self.seconds, self.runs = seconds, 0
        self.inputs = {"x": ((1,), "float32")}

    def __call__(self, feeds):
        self.runs += 1
        sleep(self.seconds)

    def warm_up(self):
        pass


@pytest.mark.parametrize(
    ("onnxruntime_s", "openvino_s", "wanted"),
    [(0.02, 0.01, "openvino"), (0.02, 0.021, "openvino"), (0.01, 0.02, "onnxruntime")],
)
def test_auto_takes_the_fastest_and_remembers_it(
    bundle, monkeypatch, tmp_path, caplog, onnxruntime_s, openvino_s, wanted
):
    monkeypatch.setenv("PEFT_DML_ENGINE_CACHE", str(tmp_path))
    monkeypatch.setattr(selection, "version", lambda name: "1")
    caplog.set_level(logging.INFO)
    engines = {"onnxruntime": Slow(onnxruntime_s), "openvino": Slow(openvino_s)}
    load = lambda name: {"camera": engines[name]}  # noqa: E731
    assert choose_engine(bundle, 1, load) == wanted
    assert f"takes {wanted}" in caplog.text
    assert engines["openvino"].runs >= 3
    assert len(json.loads((tmp_path / "trials.json").read_text())) == 1
    runs = engines["openvino"].runs
    assert choose_engine(bundle, 1, load) == wanted
    assert engines["openvino"].runs == runs, "measured once a machine"
    choose_engine(bundle, 2, load)
    assert engines["openvino"].runs > runs, "another number of threads is measured again"
    (tmp_path / "trials.json").write_text("{")
    assert choose_engine(bundle, 1, load) == wanted


def test_auto_is_onnx_runtime_where_openvino_is_missing_or_fails(bundle, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PEFT_DML_ENGINE_CACHE", str(tmp_path))

    def load(name):
        if name == "openvino":
            msg = "OpenVINO cannot load camera.onnx"
            raise EngineError(msg)
        return {"camera": Slow(0.0)}

    monkeypatch.setattr(selection, "version", lambda name: "1")
    assert choose_engine(bundle, 1, load) == "onnxruntime"
    assert "cannot load camera.onnx; engine: auto takes onnxruntime" in caplog.text

    def missing(name):
        raise selection.PackageNotFoundError(name)

    monkeypatch.setattr(selection, "version", missing)
    assert choose_engine(bundle, 1, load) == "onnxruntime"
    assert isinstance(load_engines(bundle, "auto", 1)["fusion"], OnnxRuntimeEngine)


def test_each_engine_gets_the_precision_that_suits_it(bundle, tmp_path):
    assert suitable_precision(bundle, "onnxruntime") == ("int8" if "int8" in bundle.precisions else "")
    assert suitable_precision(bundle, "tensorrt") == ("fp16" if "fp16" in bundle.precisions else "")
