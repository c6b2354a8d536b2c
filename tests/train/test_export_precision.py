# SPDX-License-Identifier: Apache-2.0
"""Graphs keep to what TensorRT has; fp16 and int8 are inside them and change little; all subsets agree with torch."""

import json
import re
import shutil

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from peft_dml_ros.core.bundle import find_bundle, load_bundle
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import BundleError, ConfigError
from peft_dml_ros.core.inputs import InputAssembler, NetworkInputs
from peft_dml_ros.engines import load_engines, suitable_precision
from peft_dml_ros.engines.onnxruntime import OnnxRuntimeEngine, for_cpu
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.synthetic import random_feeds
from peft_dml_train.export.half_precision import to_fp16
from peft_dml_train.export.operators import operator_problems, prepare
from peft_dml_train.export.precision import convert_bundle, graph_feeds, half, quantise
from peft_dml_train.export.quantise import activation_ranges, convolutions, quantise_graph
from peft_dml_train.export.subset_parity import subset_parity
from peft_dml_train.export.types import type_problems
from peft_dml_train.export.weights import folded
from peft_dml_train.loop.stages import new_network
from tests.core.test_inputs import full_snapshot
from tests.support import scenes
from tests.support.exported import bundle_of

DEMO = sorted(find_bundle("demo").glob("*.onnx"))


def random_inputs(spec, seed):
    feeds = {m: {k: v[0].numpy() for k, v in f.items()} for m, f in random_feeds(spec, 1, seed).items()}
    ones = np.ones(5, np.float32)
    return NetworkInputs(feeds, ones, ones * 0.05, ones)


@pytest.fixture(scope="module")
def exported(config, tmp_path_factory):
    """A tiny bundle and the network that it came from."""
    network = new_network(config)
    bundle = bundle_of(network, tmp_path_factory.mktemp("export") / "tiny")
    paths = {graph: bundle.graph_file(graph) for graph in bundle.manifest.graphs}
    return network, load_engines(bundle), bundle.path, paths


@pytest.mark.parametrize("path", DEMO, ids=lambda p: p.stem)
def test_the_shipped_graphs_run_in_tensorrt_without_plugins(path):
    assert len(DEMO) >= 6
    assert operator_problems(folded(onnx.load(path))) == []


def one_node(node, *inputs, opsets=(("", 17),), **weights):
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
        [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in opsets])


F, U, B = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.BOOL
IMAGE = ("x", F, [1, 1, 2, 2])
DILATED = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], dilations=[2, 2])
TOP = helper.make_node("TopK", ["x", "k"], ["y", "i"])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (one_node(helper.make_node("NonZero", ["x"], ["y"]), ("x", F, [4])), "NonZero"),
        (one_node(helper.make_node("Relu", ["x"], ["y"]), ("x", F, ["batch", 4])), "static shape"),
        (
            one_node(helper.make_node("Cross", ["x"], ["y"], domain="my"), ("x", F, [4]), opsets=[("", 17), ("my", 1)]),
            "my",
        ),
        (
            one_node(
                helper.make_node("ScatterND", ["x", "i", "u"], ["y"], reduction="max"),
                *(("x", F, [4]), ("i", TensorProto.INT64, [1, 1]), ("u", F, [1])),
            ),
            "reduction add. is refused",
        ),
        (
            one_node(helper.make_node("TopK", ["x", "k"], ["y", "i"]), ("x", F, [9000]), k=np.array([3841])),
            "K above 3840",
        ),
        (one_node(DILATED, IMAGE), "dilated"),
        (one_node(helper.make_node("Mod", ["x", "x"], ["y"], fmod=1), ("x", F, [4])), "of float is refused"),
        (
            one_node(
                helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]),
                ("x", F, [4]),
                s=np.float32(0.1),
                z=np.int8(3),
            ),
            "zero point",
        ),
        (one_node(helper.make_node("Reshape", ["x", "s"], ["y"]), ("x", U, [4]), s=np.array([2, 2])), "cast before"),
    ],
)
def test_what_tensorrt_cannot_run_is_named(model, reason):
    assert any(re.search(reason, problem) for problem in operator_problems(model))


H, I8, D = TensorProto.FLOAT16, TensorProto.INT8, TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("node", "inputs", "reason"),
    [
        (helper.make_node("Mul", ["x", "m"], ["y"]), [("x", F, [1]), ("m", H, [1])], "mul|types do not fit"),
        (helper.make_node("Max", ["x", "m"], ["y"]), [("x", F, [1]), ("m", H, [1])], "mixes|types do not fit"),
        (helper.make_node("Relu", ["x"], ["y"]), [("x", D, [1])], "double|types do not fit"),
        (helper.make_node("Cast", ["x"], ["y"], to=F), [("x", D, [1])], "'x' is double"),
        (helper.make_node("Cast", ["x"], ["y"], to=F), [("x", I8, [1])], "only DequantizeLinear"),
        (helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1]), [("x", I8, [1, 1, 2, 2])], "floats|not fit"),
        (helper.make_node("Where", ["c", "x", "m"], ["y"]), [("c", B, [1]), ("x", F, [1]), ("m", H, [1])], "mixes|not"),
    ],
)
def test_types_that_a_strongly_typed_network_refuses_are_named(node, inputs, reason):
    assert any(re.search(reason, problem) for problem in type_problems(one_node(node, *inputs)))


def test_a_conversion_that_tensorrt_would_refuse_makes_no_bundle(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("peft_dml_train.export.operators.operator_problems", lambda _: ["Mul 'x' mixes types"])
    with pytest.raises(BundleError, match="would not run in TensorRT: Mul 'x' mixes types"):
        half(exported[2], tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_rewritten_graphs_give_the_same():
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        helper.make_node("Cast", ["b"], ["c"], to=F),
        helper.make_node("MatMul", ["c", "matrix"], ["e"]),
        helper.make_node("Softmax", ["e"], ["y"], "soft", axis=1),
    ]
    rng = np.random.default_rng(0)
    weights = {
        "shape": np.array([2, 3, 4]),
        "matrix": rng.normal(size=(3, 5)).astype(np.float32) / 100,
    }
    inputs = [helper.make_tensor_value_info("image", U, [24])]
    outputs = [helper.make_tensor_value_info("y", F, [2, 4, 5])]
    initializers = [numpy_helper.from_array(v, n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    graph.value_info.append(helper.make_tensor_value_info("e", F, [2, 4, 5]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    assert operator_problems(model)
    better = prepare(model)
    assert operator_problems(better) == []
    assert [n.op_type for n in better.graph.node][:4] == ["Cast", "Reshape", "Transpose", "MatMul"]
    feeds = {"image": rng.integers(0, 255, 24).astype(np.uint8)}
    own, theirs = (
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for m in (better, model)
    )
    np.testing.assert_allclose(own, theirs, atol=1e-6)


def test_all_31_subsets_agree_with_the_network(exported, config):
    network, engines, *_ = exported
    measured = InputAssembler(config.spec, scenes.rig())(full_snapshot())
    assert subset_parity(network, engines, [random_inputs(config.spec, 5), measured]) < 1e-3


def test_a_real_frame_agrees_too(exported, config, real_keyframe):
    network, engines, *_ = exported
    reader = NuScenesReader(real_keyframe)
    token = reader.samples(next(iter(reader.scenes)))[0]
    frame = InputAssembler(config.spec, reader.rig(token))(reader.snapshot(token, config.spec))
    assert frame.mask[:3].all()
    assert subset_parity(network, engines, [frame]) < 1e-3


def test_a_graph_that_differs_is_refused(exported, config, tmp_path):
    network, engines, _, paths = exported
    model = onnx.load(paths["radar"])
    weight = max(model.graph.initializer, key=lambda w: w.ByteSize())
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.5, weight.name))
    onnx.save(model, tmp_path / "radar.onnx")
    other = OnnxRuntimeEngine(tmp_path / "radar.onnx")
    with pytest.raises(BundleError, match="do not ship"):
        subset_parity(network, {**engines, "radar": other}, [random_inputs(config.spec, 5)])


@pytest.fixture(scope="module")
def int8(exported, config, tmp_path_factory):
    frames = [random_inputs(config.spec, seed) for seed in range(6)]
    return quantise(exported[2], frames, tmp_path_factory.mktemp("int8") / "tiny")


CONVOLUTIONS = {"lidar": 14, "camera": 21, "radar": 8, "fusion": 79}
QUANTISED = {"lidar": 19, "camera": 31, "radar": 11, "fusion": 157}
"""Convolutions and values of the tiny network that are in 8 bit; those that lead to a normalised latent are not."""


def test_int8_is_symmetric_and_keeps_to_the_rules(int8):
    manifest = load_bundle(int8).manifest
    assert manifest.precision == "int8"
    assert manifest.provenance["precision"]["calibration_frames"] == 6
    for graph in ("lidar", "camera", "radar", "fusion"):
        assert operator_problems(onnx.load(int8 / f"{graph}.onnx")) == []
        model = onnx.load_from_string(load_bundle(int8).graph(graph).content)
        assert operator_problems(model) == []
        values = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
        in_8_bit = [n for n in model.graph.node if n.op_type == "Conv" and n.input[1].endswith("_dq")]
        assert len(in_8_bit) == CONVOLUTIONS[graph]
        assert sum(n.op_type == "QuantizeLinear" for n in model.graph.node) == QUANTISED[graph]
        scales = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.attribute]
        assert scales
        for node in scales:
            assert values[node.input[0]].dtype == np.int8
            assert values[node.input[1]].shape == values[node.input[0]].shape[:1]


def test_int8_changes_little(exported, int8, config):
    frame = random_inputs(config.spec, 77)
    own, theirs = load_engines(load_bundle(int8), threads=1), load_engines(load_bundle(exported[2]), threads=1)
    for m in MODALITIES:
        a, b = own[m](frame.feeds[m])["latent"], theirs[m](frame.feeds[m])["latent"]
        # Latents are unit vectors: their products are cosines.
        assert (a * b).sum(axis=1).mean() > 0.98, m


def test_the_cpu_reads_what_is_never_negative_as_unsigned_and_joins_the_relu(int8, tmp_path):
    content = load_bundle(int8).graph("radar").content
    patched = for_cpu(content)
    values, finer = (
        {w.name: numpy_helper.to_array(w) for w in onnx.load_from_string(model).graph.initializer}
        for model in (content, patched)
    )
    nodes = onnx.load_from_string(patched).graph.node
    rectified = {n.input[1] for n in nodes if n.input[2:] == ["relu_zero_point"]}
    assert finer.pop("relu_zero_point").dtype == np.uint8
    assert values.pop("relu_zero_point").dtype == np.int8
    for name, value in values.items():
        np.testing.assert_allclose(finer[name], value * (127 / 255 if name in rectified else 1), rtol=1e-5)
    assert len(rectified) == 7
    assert for_cpu(load_bundle(int8).graph("imu").content) == load_bundle(int8).graph("imu").content
    kinds = {}
    for name, model in (("signed", content), ("unsigned", patched)):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / f"{name}.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        kinds[name] = [n.op_type for n in onnx.load(tmp_path / f"{name}.onnx").graph.node]
    quantised = [
        n.name for n in onnx.load(int8 / "radar.onnx").graph.node if n.op_type == "Conv" and n.input[1].endswith("_dq")
    ]
    assert kinds["unsigned"].count("QLinearConv") == len(quantised) == CONVOLUTIONS["radar"]
    assert kinds["unsigned"].count("Relu") < kinds["signed"].count("Relu") + kinds["signed"].count("FusedConv")


def test_a_relu6_is_joined_with_its_convolution(tmp_path):
    rng = np.random.default_rng(1)
    weights = {
        f"w{i}": rng.normal(0, 0.3, shape).astype(np.float32)
        for i, shape in enumerate([(8, 3, 3, 3), (8, 8, 3, 3), (4, 8, 1, 1), (2, 4, 1, 1)])
    }
    bounds = {"low": np.float32(0.0), "high": np.float32(6.0)}
    nodes, x = [], "x"
    for i in range(4):
        edge = 1 if i < 2 else 0
        nodes.append(helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[edge] * 4))
        x = f"c{i}"
        if i < 2:
            nodes.append(helper.make_node("Clip", [x, "low", "high"], [f"r{i}"], f"clip{i}"))
            x = f"r{i}"
    inputs = [helper.make_tensor_value_info("x", F, [1, 3, 16, 16])]
    outputs = [helper.make_tensor_value_info(x, F, [1, 2, 16, 16])]
    held = [numpy_helper.from_array(v, n) for n, v in {**weights, **bounds}.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    frames = [{"x": rng.normal(0, 3, (1, 3, 16, 16)).astype(np.float32)} for _ in range(4)]
    quantised, count = quantise_graph(model, activation_ranges(model, frames))
    assert count == 3
    assert [n.input[0] for n in quantised.graph.node if n.op_type == "QuantizeLinear" and "c0" in n.input] == []
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fast.onnx")
    session = ort.InferenceSession(for_cpu(quantised.SerializeToString()), options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(tmp_path / "fast.onnx").graph.node]
    assert kinds.count("QLinearConv") == 3
    assert "Clip" not in kinds
    wanted = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, frames[0])[0]
    found = session.run(None, frames[0])[0]
    assert np.abs(found - wanted).mean() < 0.05 * np.abs(wanted).mean()


def test_excluded_convolutions_stay_as_they_are(exported):
    model = onnx.load(exported[3]["radar"])
    names = convolutions(model)
    frames = [random_inputs(exported[0].spec, 1).feeds["radar"]]
    quantised, count = quantise_graph(model, activation_ranges(model, frames, names[:3]), exclude=names[:3])
    assert count == len(names) - 3
    kept = [n for n in quantised.graph.node if n.name in names[:3]]
    assert not any(n.input[1].endswith("_dq") for n in kept)
    same, none = quantise_graph(model, {}, exclude=names)
    assert (same, none) == (model, 0)


def test_fp16_halves_the_weights_and_changes_little(exported, config, tmp_path):
    folder = half(exported[2], tmp_path / "half")
    assert load_bundle(folder).manifest.precision == "fp16"
    sizes = [len(load_bundle(f).graph("lidar").content) for f in (folder, exported[2])]
    assert sizes[0] < 0.6 * sizes[1]
    frame = random_inputs(config.spec, 3)
    feeds = graph_feeds(load_bundle(exported[2]), [frame])
    for graph in load_bundle(folder).manifest.graphs:
        engines = [OnnxRuntimeEngine(load_bundle(f).graph(graph), 1) for f in (folder, exported[2])]
        own, theirs = (e(feeds[graph][0]) for e in engines)
        assert engines[0].inputs == engines[1].inputs
        key = "scores" if graph == "fusion" else "latent"
        np.testing.assert_allclose(own[key], theirs[key], atol=0.02)
        assert operator_problems(onnx.load(folder / f"{graph}.onnx")) == []


def test_fp16_leaves_the_order_of_candidates_in_32_bit(exported):
    model = onnx.shape_inference.infer_shapes(to_fp16(onnx.load(exported[3]["fusion"])), strict_mode=True)
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    assert TensorProto.FLOAT16 in kinds.values()
    for node in model.graph.node:
        if node.op_type in {"Sigmoid", "TopK", "Exp", "ReduceL2"}:
            assert kinds[node.input[0]] == TensorProto.FLOAT
        if node.op_type == "Conv" and node.name != model.graph.node[-1].name:
            assert kinds.get(node.output[0], TensorProto.FLOAT16) == TensorProto.FLOAT16


def test_conversions_refuse_what_makes_no_sense(exported, int8, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'int8'"):
        convert_bundle(exported[2], "int9", tmp_path / "x")
    with pytest.raises(ConfigError, match="--data"):
        convert_bundle(exported[2], "int8", tmp_path / "x")
    with pytest.raises(ConfigError, match="fp32 bundle that it came from"):
        half(int8, tmp_path / "x")
    with pytest.raises(ConfigError, match="no frame"):
        quantise(exported[2], [], tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert json.loads((exported[2] / "manifest.json").read_text())["precision"] == "fp32"


def test_a_further_precision_is_added_to_the_bundle_and_chosen_by_the_engine(exported, config, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(exported[2], folder)
    frames = [random_inputs(config.spec, seed) for seed in range(3)]
    before = {graph: load_bundle(folder).graph(graph).sha256 for graph in load_bundle(folder).manifest.graphs}
    quantise(folder, frames, folder, add=True)
    half(folder, folder, add=True)
    bundle = load_bundle(folder)
    assert bundle.manifest.precision == "fp32"
    assert bundle.precisions == ("fp32", "int8", "fp16")
    assert {graph: bundle.graph(graph).sha256 for graph in before} == before
    assert set(bundle.manifest.variants["int8"]) == {"camera"}
    nodes = onnx.load(bundle.graph_file("camera", "int8")).graph.node
    taken = " ".join(n.name for n in nodes if n.op_type == "Conv" and n.input[1].endswith("_dq"))
    assert ["pyramid/levels.1" in taken, "pyramid/levels.0" in taken, "pyramid/fine" in taken] == [True, False, False]
    assert bundle.manifest.provenance["int8"] == {"calibration_frames": 3}
    assert suitable_precision(bundle, "onnxruntime") == "int8"
    assert suitable_precision(bundle, "tensorrt-rtx") == "fp16"
    feeds = frames[0].feeds["camera"]
    latents = {
        p: load_engines(bundle, "onnxruntime", 1, p)["camera"](feeds)["latent"] for p in ("fp32", "int8", "auto")
    }
    np.testing.assert_array_equal(latents["auto"], latents["int8"])
    assert np.abs(latents["int8"] - latents["fp32"]).max() > 0
    assert (latents["int8"] * latents["fp32"]).sum(axis=1).mean() > 0.98
    with pytest.raises(BundleError, match="holds fp32, int8, fp16, not fp8"):
        bundle.graph("camera", "fp8")
