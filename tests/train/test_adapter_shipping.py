# SPDX-License-Identifier: Apache-2.0
"""An adapter that was trained here gives the training's boxes in a process that has no torch."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from peft_dml_ros.core.adapter import WEIGHTS
from peft_dml_ros.core.bundle import ADAPTERS, load_bundle
from peft_dml_ros.core.onnx_graph import SCALE
from peft_dml_ros.engines import load_engines
from peft_dml_train.adapters.base_weights import load_base_state
from peft_dml_train.adapters.lora import adapt, load_adapter, merge, save_adapter, train_mode
from peft_dml_train.config import StageConfig
from peft_dml_train.data.batch import BatchStream
from peft_dml_train.evaluation.prepared import network_inputs
from peft_dml_train.evaluation.torch_engine import bundle_in_memory, torch_engines
from peft_dml_train.export.adapter import complete_adapter, write_adapter
from peft_dml_train.export.bundle import merge_difference
from peft_dml_train.export.parity import parity
from peft_dml_train.export.precision import calibrated_ranges, graph_feeds, quantise
from peft_dml_train.few_shot.frames import FrameDetector
from peft_dml_train.loop.stages import new_network, train_stage
from tests.support.exported import bundle_of

VEHICLE = """
import pickle, sys
for name in ("torch", "peft", "onnx", "transformers"):
    sys.modules[name] = None
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.params import DetectionParams
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.engines import load_engines
folder, inputs, out = sys.argv[1:]
bundle = load_bundle(folder, adapter="mine")
detector = Detector(bundle, Rig(), load_engines(bundle, threads=1), DetectionParams(score_threshold=0.03), threads=1)
found = detector.detect(pickle.load(open(inputs, "rb")), 0).boxes
pickle.dump((found.centers_m, found.scores, found.labels, found.yaws_rad), open(out, "wb"))
"""


@pytest.fixture(scope="module")
def shipped(config, frames, tmp_path_factory):
    """A base with an adapter of twenty steps, and the network that the training ended with."""
    folder = tmp_path_factory.mktemp("shipped") / "tiny"
    base = new_network(config)
    bundle = bundle_of(base, folder)
    adapted = adapt(base, config.adapters)
    stage = StageConfig(steps=20, batch=2, rate=0.003, minutes=60, paste=0, ramp=0)
    plain = config.model_copy(update={"bfloat16": False, "finetune": stage})
    network = adapted.get_base_model()
    train_stage(plain, stage, network, BatchStream(frames, plain, stage, seed=1), folder.parent / "t", train_mode,
                resume=False)  # fmt: skip
    save_adapter(adapted, folder.parent / "peft")
    write_adapter(folder.parent / "peft", folder / ADAPTERS / "mine", bundle, "mine")
    fresh = new_network(config)
    fresh.load_state_dict(load_base_state(folder))
    return folder, merge(load_adapter(fresh, folder / ADAPTERS / "mine").eval()).eval()


def test_the_vehicle_merges_what_torch_merges(shipped):
    folder, network = shipped
    bundle = load_bundle(folder, adapter="mine")
    assert merge_difference(network, bundle) < 1e-6
    assert max(parity(network, load_engines(bundle)).values()) < 1e-4
    off = load_bundle(folder, adapter="none")
    assert all(bundle.graph(g).sha256 != off.graph(g).sha256 for g in ("lidar", "camera", "radar", "fusion"))
    assert (folder / ADAPTERS / "mine" / WEIGHTS).stat().st_size < 1_200_000


def test_a_process_without_torch_finds_the_trainings_boxes(shipped, frames, tmp_path):
    folder, network = shipped
    inputs = network_inputs(frames[0], network.spec)
    (tmp_path / "inputs").write_bytes(pickle.dumps(inputs))
    done = subprocess.run(
        [sys.executable, "-c", VEHICLE, str(folder), str(tmp_path / "inputs"), str(tmp_path / "boxes")],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    centers, scores, labels, yaws = pickle.loads((tmp_path / "boxes").read_bytes())
    wanted = FrameDetector(bundle_in_memory(network), torch_engines(network))(frames[0])
    assert len(wanted) == len(scores) > 0
    # An untrained network gives many boxes the same score: both lists are put into the order of their places.
    here = np.lexsort((wanted.centers_m[:, 1].round(1), wanted.centers_m[:, 0].round(1), wanted.labels))
    there = np.lexsort((centers[:, 1].round(1), centers[:, 0].round(1), labels))
    wanted, centers, scores, labels, yaws = wanted[here], centers[there], scores[there], labels[there], yaws[there]
    np.testing.assert_allclose(scores, wanted.scores, atol=1e-4)
    np.testing.assert_array_equal(labels, wanted.labels)
    np.testing.assert_allclose(centers, wanted.centers_m, atol=1e-2)
    np.testing.assert_allclose(yaws, wanted.yaws_rad, atol=1e-2)


@pytest.fixture(scope="module")
def quantised(shipped, frames, tmp_path_factory):
    """The base with 8-bit graphs next to its own; the adapter has ranges of its own."""
    folder, network = shipped
    out = tmp_path_factory.mktemp("int8") / "tiny"
    inputs = [network_inputs(frame, network.spec) for frame in frames]
    quantise(folder, inputs, out, add=True)
    adapted = load_bundle(out, adapter="mine")
    complete_adapter(out / ADAPTERS / "mine", ranges=calibrated_ranges(adapted, graph_feeds(adapted, inputs)))
    return out


def test_eight_bit_weights_come_from_merged_values_and_scales_from_the_adapter(quantised):
    graph = "camera"  # the only one that is in 8 bit next to the float graphs
    bundle = load_bundle(quantised, adapter="mine")
    model = onnx.load_from_string(bundle.graph(graph, "int8").content)
    held, merged = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(content).graph.initializer}
        for content in (model.SerializeToString(), bundle.graph(graph).content)
    )
    weights = [
        n.input for n in model.graph.node if n.op_type == "DequantizeLinear" and held.get(n.input[0]) is not None
    ]
    weights = [names for names in weights if held[names[0]].ndim == 4]
    assert len(weights) > 5
    for quantised_name, scale_name, _ in weights:
        values = merged[quantised_name.removesuffix("_q")]
        scale = np.abs(values).max(axis=(1, 2, 3)) / 127
        np.testing.assert_allclose(held[scale_name], scale, rtol=1e-6)
        np.testing.assert_array_equal(
            held[quantised_name], np.rint(values / scale[:, None, None, None]).astype(np.int8)
        )
    ranges, base = bundle.adapters.ranges(graph), load_bundle(quantised, adapter="none").graph(graph, "int8").content
    own = {t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(base).graph.initializer}
    scales = [f"{tensor}{SCALE}" for tensor in ranges if f"{tensor}{SCALE}" in held]
    assert len(scales) > 5
    for name in scales:
        assert held[name] == pytest.approx(ranges[name.removesuffix(SCALE)] / 127, rel=1e-5)
    assert any(held[name] != own[name] for name in scales), "the base has other ranges"


def test_eight_bit_with_an_adapter_computes_what_the_adapter_does(quantised, frames):
    bundle = load_bundle(quantised, adapter="mine")
    inputs = network_inputs(frames[0], bundle.spec)
    exact, eight = (load_engines(bundle, "onnxruntime", 1, precision) for precision in ("fp32", "int8"))
    for graph in ("lidar", "camera", "radar"):
        a, b = (np.asarray(engines[graph](inputs.feeds[graph])["latent"]).ravel() for engines in (exact, eight))
        assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.98, graph
