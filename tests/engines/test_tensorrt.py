# SPDX-License-Identifier: Apache-2.0
"""The TensorRT engine: same boxes as ONNX Runtime's, latents stay on the device, and the cache is never wrong."""

import errno
import gc
import json
import sys
from pathlib import Path
from threading import Event, Thread
from time import sleep
from types import SimpleNamespace

import numpy as np
import pytest

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.engine import DeviceArray
from peft_dml_ros.core.errors import BundleError, EngineError
from peft_dml_ros.engines import load_engines
from peft_dml_ros.engines.cache import BuildProfile, engine_headers
from peft_dml_ros.engines.tensorrt import load_tensorrt_engines
from peft_dml_ros.engines.tensorrt_build import open_store
from peft_dml_tools.bundles.manifest import write_manifest
from tests.core.test_inputs import full_snapshot
from tests.engines.stand_in import HASTY, LAZY, StandInCuda, stand_in_tensorrt
from tests.support import scenes
from tests.support.random_bundle import make_random_bundle

GRAPHS = 6


@pytest.fixture
def bundle(tmp_path):
    return load_bundle(make_random_bundle(tmp_path / "random"))


@pytest.fixture
def install(monkeypatch, tmp_path):
    monkeypatch.setenv("PEFT_DML_ENGINE_CACHE", str(tmp_path / "cache"))

    def install(gpu="NVIDIA Test 1", version="10.3.0", driver=12060, order=LAZY, **options):
        cuda = StandInCuda(gpu, driver, order)
        trt = stand_in_tensorrt(cuda, version, **options)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
        return trt, cuda

    return install


def build_tensorrt_engines(bundle, profile=None):
    store = open_store(bundle, "tensorrt")
    return {graph: len(store.plan(graph, profile or BuildProfile())) for graph in bundle.manifest.graphs}


def same_boxes(detector, other):
    for absent in ((), ("lidar",), ("camera", "gnss")):
        found, expected = (d(full_snapshot().without(*absent)).boxes for d in (detector, other))
        assert len(found) > 10
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(found.centers_m, expected.centers_m, atol=1e-5)


@pytest.mark.parametrize("order", [LAZY, HASTY])
def test_same_boxes_as_onnx_runtime(bundle, install, order):
    _, cuda = install(order=order)
    detector = Detector(bundle, scenes.rig(), load_engines(bundle, "tensorrt"))
    detector.warm_up()
    assert cuda.launches == GRAPHS
    same_boxes(detector, Detector(bundle, scenes.rig(), load_engines(bundle, threads=1)))


def test_latents_never_visit_the_host(bundle, install):
    _, cuda = install()
    detector = Detector(bundle, scenes.rig(), load_engines(bundle, "tensorrt"))
    detector.warm_up()
    detector(full_snapshot())
    cuda.copies.clear()
    launches = cuda.launches
    detector(full_snapshot())
    latent = 32 * 128 * 128 * 4
    assert cuda.launches - launches == GRAPHS
    assert sum(kind == "within" for kind, _ in cuda.copies) == 5
    assert not [c for c in cuda.copies if c[0] != "within" and c[1] == latent]
    # The camera's look-up tables do not change and are not copied again.
    tables = [size for kind, size in cuda.copies if kind == "up" and size == 3 * 128 * 128 * 4]
    assert not tables


def test_zeros_of_an_absent_sensor_are_copied_once(bundle, install):
    _, cuda = install()
    detector = Detector(bundle, scenes.rig(), load_engines(bundle, "tensorrt"))
    for copies in (1, 0, 0):
        cuda.copies.clear()
        detector(full_snapshot().without("radar"))
        assert [c for c in cuda.copies if c == ("up", 32 * 128 * 128 * 4)] == [("up", 32 * 128 * 128 * 4)] * copies


def test_outputs_are_the_callers_own_and_memory_is_given_back(bundle, install):
    _, cuda = install()
    engine = load_tensorrt_engines(bundle)["imu"]
    feeds = {"window": np.ones((32, 7), np.float32)}
    first = engine(feeds)["latent"]
    kept = first.copy()
    engine({"window": np.zeros((32, 7), np.float32)})
    np.testing.assert_array_equal(first, kept)
    handle = engine.start(feeds)["latent"]
    assert isinstance(handle, DeviceArray)
    assert handle.shape == (1, 32)
    assert engine.elapsed_ms == 1.5
    with pytest.raises(EngineError, match="window"):
        engine({"window": np.zeros((3, 7), np.float32)})
    del engine, handle
    gc.collect()
    assert cuda.alive == [0, 0, 0, 0]


def test_hot_swap_under_load_leaks_nothing(bundle, install):
    """A thread detects all the time while bundles are loaded and swapped in; counts return to one detector's."""
    _, cuda = install()
    holder, frames, stop = [None], [0], Event()

    def load():
        engines = load_engines(bundle, "tensorrt")
        for engine in engines.values():
            engine.warm_up()
        holder[0] = Detector(bundle, scenes.rig(), engines, threads=1)

    def drive():
        while not stop.is_set():
            holder[0](full_snapshot())
            frames[0] += 1

    load()
    one = cuda.alive
    thread = Thread(target=drive)
    thread.start()
    for _ in range(3):
        seen = frames[0]
        load()
        while frames[0] < seen + 2 and thread.is_alive():
            sleep(0.01)
    stop.set()
    thread.join()
    gc.collect()
    assert frames[0] >= 6
    assert one[1] == GRAPHS
    assert one[2] == 3 * GRAPHS
    assert one[3] == GRAPHS
    assert cuda.alive == one


def test_a_second_start_builds_nothing_and_needs_no_builder(bundle, install):
    trt, _ = install()
    assert set(build_tensorrt_engines(bundle)) == set(bundle.manifest.graphs)
    assert trt.builds == GRAPHS
    install(can_build=False)
    load_engines(bundle, "tensorrt")


def test_an_engine_built_with_another_profile_is_what_the_vehicle_loads(bundle, install):
    trt, _ = install()
    build_tensorrt_engines(bundle, BuildProfile(optimization_level=5))
    load_engines(bundle, "tensorrt")
    assert trt.builds == GRAPHS


@pytest.mark.parametrize(
    "change", [{"gpu": "NVIDIA Test 2"}, {"version": "10.16.1"}, {"version": "11.4.0"}, {"driver": 13000}, "profile"]
)
def test_a_change_of_anything_builds_again_and_keeps_the_old(bundle, install, change, tmp_path):
    install()
    build_tensorrt_engines(bundle)
    old = {path: path.read_bytes() for path in (tmp_path / "cache").glob("*.engine")}
    trt, _ = install(**({} if change == "profile" else change))
    profile = BuildProfile(optimization_level=5) if change == "profile" else None
    build_tensorrt_engines(bundle, profile)
    assert trt.builds == GRAPHS
    assert len(list(engine_headers(tmp_path / "cache"))) == 2 * GRAPHS
    assert {path: path.read_bytes() for path in old} == old


def test_new_weights_of_the_same_shape_are_built_again(bundle, install):
    trt, _ = install()
    build_tensorrt_engines(bundle)
    graph = bundle.path / "imu.onnx"
    graph.write_bytes((bundle.path / "gnss.onnx").read_bytes())
    with pytest.raises(BundleError, match="altered"):
        load_bundle(bundle.path)
    graph.write_bytes(make_random_bundle(bundle.path.parent / "other").joinpath("radar.onnx").read_bytes())
    write_manifest(bundle.path, bundle.manifest)
    build_tensorrt_engines(load_bundle(bundle.path))
    assert trt.builds == GRAPHS + 1


@pytest.mark.parametrize("spoil", [lambda b: b[:-100], lambda b: b"no engine", lambda b: b + b"x"])
def test_a_damaged_engine_is_built_again(bundle, install, tmp_path, caplog, spoil):
    trt, _ = install()
    build_tensorrt_engines(bundle)
    victim = next((tmp_path / "cache").glob("random-imu-*.engine"))
    victim.write_bytes(spoil(victim.read_bytes()))
    load_engines(bundle, "tensorrt")
    assert trt.builds == GRAPHS + 1
    assert "damaged" in caplog.text


def test_an_engine_of_another_gpu_under_this_name_is_named_and_not_used(bundle, install, tmp_path, caplog):
    trt, _ = install()
    build_tensorrt_engines(bundle)
    victim = next((tmp_path / "cache").glob("random-imu-*.engine"))
    head, _, plan = victim.read_bytes().partition(b"\n")
    header = json.loads(head)
    header["key"]["gpu"] = "NVIDIA Orin"
    victim.write_bytes(json.dumps(header).encode() + b"\n" + plan)
    load_engines(bundle, "tensorrt")
    assert trt.builds == GRAPHS + 1
    assert "gpu NVIDIA Orin instead of NVIDIA Test 1" in caplog.text


def test_a_full_disk_leaves_the_previous_engine(bundle, install, tmp_path, monkeypatch):
    install()
    build_tensorrt_engines(bundle)
    before = {p.name: p.read_bytes() for p in (tmp_path / "cache").iterdir()}

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    install("NVIDIA Test 2")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(EngineError, match=r"No space left.*PEFT_DML_ENGINE_CACHE.*untouched"):
            build_tensorrt_engines(bundle)
    assert {p.name: p.read_bytes() for p in (tmp_path / "cache").iterdir()} == before
    trt, _ = install()
    load_engines(bundle, "tensorrt")
    assert trt.builds == 0


def test_a_build_that_could_not_be_stored_does_not_begin(bundle, install, monkeypatch):
    trt, _ = install()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(EngineError, match=r"1 MiB free.*PEFT_DML_ENGINE_CACHE"):
        build_tensorrt_engines(bundle)
    assert trt.builds == 0


def test_timings_that_cannot_be_kept_do_not_lose_the_engine(bundle, install, tmp_path):
    (tmp_path / "cache" / "timing-8.7-TensorRT_10.3.0.cache").mkdir(parents=True)
    # A folder in the place of the file cannot be replaced by it.
    install()
    assert len(build_tensorrt_engines(bundle)) == GRAPHS


def test_a_truncated_graph_is_refused_by_name(bundle, install):
    install()
    graph = bundle.path / "imu.onnx"
    graph.write_bytes(graph.read_bytes()[:300])
    with pytest.raises(BundleError, match=r"imu\.onnx: sha256"):
        build_tensorrt_engines(bundle)
    write_manifest(bundle.path, bundle.manifest)
    with pytest.raises(EngineError, match=r"imu\.onnx: 300 bytes are no ONNX graph.*restore"):
        build_tensorrt_engines(load_bundle(bundle.path))


def test_what_is_missing_is_named_with_the_fix(bundle, install, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match="pip install tensorrt"):
        load_engines(bundle, "tensorrt")
    install(version="8.6.1")
    with pytest.raises(EngineError, match="too old"):
        load_engines(bundle, "tensorrt")
    install()
    for layout in ("cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.setitem(sys.modules, layout, None)
    with pytest.raises(EngineError, match="pip install cuda-python"):
        load_engines(bundle, "tensorrt")


def test_a_cuda_error_says_what_failed(bundle, install):
    _, cuda = install()
    cuda.cudaGetDeviceCount = lambda: (100, None)
    with pytest.raises(EngineError, match="cudaGetDeviceCount failed"):
        load_engines(bundle, "tensorrt")

    def no_driver():
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    cuda.cudaGetDeviceCount = no_driver
    with pytest.raises(EngineError, match=r"libcuda\.so\.1; fix: install NVIDIA's driver"):
        load_engines(bundle, "tensorrt")
    cuda.cudaGetDeviceCount = lambda: (0, 0)
    with pytest.raises(EngineError, match="no NVIDIA GPU"):
        load_engines(bundle, "tensorrt")
