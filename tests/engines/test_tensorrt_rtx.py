# SPDX-License-Identifier: Apache-2.0
"""TensorRT for RTX itself: engines are parsed and built here, without a GPU, for cards that are named."""

import json
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.core.bundle import bundle_folders, load_bundle
from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.engines import load_engines, tensorrt_library
from peft_dml_ros.engines.cache import EngineKey, engine_headers, find_engine
from peft_dml_ros.engines.tensorrt_build import open_store, parse_graph
from peft_dml_ros.engines.tensorrt_library import load_tensorrt
from peft_dml_tools.commands.bundle import licence_of

if find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("the extra tensorrt-rtx is not installed", allow_module_level=True)

RTX = "tensorrt-rtx"
CARDS = ("8.6", "8.9", "12.0")
SHIPPED = sorted({path.parent.name for folder in bundle_folders() for path in folder.glob("*/manifest.json")})
NEAR_NOTHING = 64 << 10
RECORD = json.loads((Path(__file__).parents[2] / "bench" / "engine_builds.json").read_text())


def has_gpu():
    try:
        return bool(open_store(load_bundle("demo"), RTX).gpu)
    except EngineError:
        return False


@pytest.mark.parametrize("name", SHIPPED)
def test_every_graph_of_every_shipped_bundle_is_built_for_rtx_cards(name, tmp_path):
    bundle = load_bundle(name)
    weights = "merged" if bundle.adapters.parts else "base"
    record = {(row["source"], row["weights"], row["precision"], row["graph"]): row for row in RECORD["builds"]}
    for precision in bundle.precisions:
        store = open_store(bundle, RTX, precision, CARDS, tmp_path)
        for graph in bundle.manifest.graphs:
            size = len(store.plan(graph))
            assert size > NEAR_NOTHING
            if RECORD["library"] == store.library.name:
                # A graph without this precision is taken as it is.
                own = precision if graph in bundle.manifest.variants.get(precision, {}) else bundle.manifest.precision
                recorded = record[f"bundle {name}", weights, own, graph]["plan_bytes"]
                assert size == pytest.approx(recorded, rel=0.1), (graph, precision)


def test_the_network_is_strongly_typed_and_says_what_the_manifest_says():
    bundle, trt = load_bundle("demo"), load_tensorrt(RTX).trt
    names = {"float32": trt.float32, "int32": trt.int32, "uint8": trt.uint8}
    for graph, info in bundle.manifest.graphs.items():
        network = parse_graph(bundle.graph(graph).content, graph, trt).network
        assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        for declared, count, tensor in (
            (info.inputs, network.num_inputs, network.get_input),
            (info.outputs, network.num_outputs, network.get_output),
        ):
            found = {tensor(i).name: (tuple(tensor(i).shape), tensor(i).dtype) for i in range(count)}
            assert found == {n: (tensor_info.shape, names[tensor_info.dtype]) for n, tensor_info in declared.items()}
        layers = [network.get_layer(i) for i in range(network.num_layers)]
        kinds = Counter(layer.get_output_type(i) for layer in layers for i in range(layer.num_outputs))
        assert kinds[trt.float32] > 5
        assert not kinds[trt.int8]


def test_equal_graphs_give_equal_plans(tmp_path):
    bundle = load_bundle("demo")
    plans = [open_store(bundle, RTX, "", ("8.9",), tmp_path / n).plan("imu") for n in ("a", "b")]
    assert plans[0] == plans[1]


def test_the_command_builds_ahead_and_the_vehicle_finds_it(tmp_path):
    arguments = ["bundle", "build", "demo", "--engine", RTX, "--out", str(tmp_path)]
    arguments += [part for card in CARDS for part in ("--compute-capability", card)]
    for _ in range(2):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert "compute capability 8.6, 8.9, 12.0" in done.output
        assert Path(done.output.rpartition("read NVIDIA's licence: ")[2].strip()).is_file()
    assert len(list(engine_headers(tmp_path))) == 6
    bundle, library = load_bundle("demo"), load_tensorrt(RTX)
    digest = bundle.graph("fusion").sha256
    reasons = []
    for card in CARDS:
        assert find_engine(tmp_path, "demo-fusion", EngineKey(digest, library.name, (card,)), reasons.append)
    assert not reasons
    assert find_engine(tmp_path, "demo-fusion", EngineKey(digest, library.name, ("7.5",)), reasons.append) is None
    assert "compute capability 8.6, 8.9, 12.0 instead of 7.5; it is not used" in reasons[0]
    assert (
        find_engine(tmp_path, "demo-fusion", EngineKey(digest, "TensorRT for RTX 9", ("8.9",)), reasons.append) is None
    )
    assert f"library {library.name} instead of TensorRT for RTX 9" in reasons[1]


def test_a_licence_file_that_is_missing_is_named_with_the_fix(tmp_path, monkeypatch):
    made = tmp_path / "fast_kernels-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: fast-kernels\nVersion: 1.0\n")
    (made / "RECORD").write_text("fast_kernels/__init__.py,,\nfast_kernels-1.0.dist-info/LICENSE.txt,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    lost = licence_of("fast_kernels", "Fast 1.0")
    assert lost.startswith("the licence file of Fast 1.0 is missing; fix: pip install --force-reinstall fast-kernels")
    assert "fix: read the one that came with Fast 1.0" in licence_of("no_such_module", "Fast 1.0")
    (made / "LICENSE.txt").write_text("terms")
    assert licence_of("fast_kernels", "Fast 1.0").endswith(str(made / "LICENSE.txt"))


def test_an_engine_that_was_cut_or_altered_is_built_again(tmp_path, caplog):
    store = open_store(load_bundle("demo"), RTX, "", ("8.9",), tmp_path)
    whole = store.plan("gnss")
    (path,) = tmp_path.glob("demo-gnss-*.engine")
    content = path.read_bytes()
    middle = len(content) // 2
    for damaged in (
        content[:-100],
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        b"\xff" * 99,
    ):
        path.write_bytes(damaged)
        caplog.clear()
        assert store.plan("gnss") == whole
        assert "damaged" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("tensorrt-rtx", "", ("9.0",)), "does not know compute capability 9.0; it knows 7.5, .*onnxruntime-cuda"),
        (("tensorrt", "", ("8.9",)), "(needs the Python module 'tensorrt'|builds for the GPU at hand only)"),
    ],
)
def test_another_capability_is_refused_in_one_line(arguments, reason, tmp_path):
    with pytest.raises(EngineError, match=reason) as caught:
        open_store(load_bundle("demo"), *arguments, tmp_path)
    assert "\n" not in str(caught.value)


def test_without_a_gpu_the_vehicle_says_so_and_the_builder_names_the_way():
    if has_gpu():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match=r"driver.*use engine: onnxruntime.*name the GPU: --compute-capability 12\.1"):
        load_engines(load_bundle("demo"), RTX)


def test_libraries_that_are_missing_are_named_with_the_fix(tmp_path, monkeypatch):
    package = tmp_path / "no_libraries"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "libtensorrt_rtx.so.1.7.1").write_text("no library")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(tensorrt_library, "RTX_WHEEL", "no_libraries")
    with pytest.raises(
        EngineError, match=r"its libraries \(.*libtensorrt_rtx.*pip install 'peft_dml_ros\[tensorrt-rtx\]'"
    ):
        load_tensorrt(RTX)
