# SPDX-License-Identifier: Apache-2.0
"""Bundles: an untouched one loads, every way of spoiling one is refused by name."""

import json

import pytest

from peft_dml_ros.core.bundle import MANIFEST, load_bundle
from peft_dml_ros.core.errors import BundleError
from peft_dml_ros.core.verified_files import sha256
from peft_dml_tools.bundles.manifest import write_manifest
from tests.support.random_bundle import make_random_bundle


@pytest.fixture
def bundle(tmp_path):
    return make_random_bundle(tmp_path / "random")


def edit(folder, **changes):
    file = folder / MANIFEST
    manifest = json.loads(file.read_text())
    manifest.update(changes)
    file.write_text(json.dumps(manifest))


def test_an_untouched_bundle_loads(bundle):
    loaded = load_bundle(bundle)
    assert loaded.manifest.name == "random"
    assert set(loaded.manifest.graphs) == {"lidar", "camera", "radar", "imu", "gnss", "fusion"}
    assert loaded.temperature(("lidar",)) == 1.0


def test_an_altered_file_is_named(bundle):
    with (bundle / "radar.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"'radar\.onnx' was altered"):
        load_bundle(bundle)


def test_a_missing_file_is_named(bundle):
    (bundle / "imu.onnx").unlink()
    with pytest.raises(BundleError, match=r"'imu\.onnx' is missing"):
        load_bundle(bundle)


def test_a_path_outside_is_refused(bundle):
    outside = bundle.parent / "outside.bin"
    outside.write_bytes(b"1")
    files = json.loads((bundle / MANIFEST).read_text())["files"]
    edit(bundle, files=files | {"../outside.bin": sha256(outside)})
    with pytest.raises(BundleError, match="leaves the folder"):
        load_bundle(bundle)


def test_an_unknown_class_is_refused(bundle):
    spec = json.loads((bundle / MANIFEST).read_text())["spec"]
    edit(bundle, spec=spec | {"classes": ["car", "motorbike"]})
    with pytest.raises(BundleError, match="motorbike"):
        load_bundle(bundle)


def test_shapes_that_do_not_fit_the_spec_are_refused(bundle):
    spec = json.loads((bundle / MANIFEST).read_text())["spec"]
    edit(bundle, spec=spec | {"latent_dim": 64})
    with pytest.raises(BundleError, match="graph 'fusion' inputs"):
        load_bundle(bundle)


@pytest.mark.parametrize("change", [{"schema_version": 9}, {"surprise": 1}, {"trained_share": 2.0}])
def test_another_schema_is_refused(bundle, change):
    edit(bundle, **change)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(bundle)


def test_a_misspelt_name_lists_what_there_is(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle.*(choices: \w|did you mean|none to choose from)"):
        load_bundle(tmp_path / "nothing")


def test_a_variant_in_another_precision_is_held_to_its_hash_and_falls_back_by_graph(bundle):
    (bundle / "int8").mkdir()
    (bundle / "int8" / "radar.onnx").write_bytes((bundle / "radar.onnx").read_bytes())
    manifest = load_bundle(bundle).manifest
    write_manifest(bundle, manifest.model_copy(update={"variants": {"int8": {"radar": "int8/radar.onnx"}}}))
    loaded = load_bundle(bundle)
    assert loaded.precisions == ("fp32", "int8")
    assert loaded.graph_file("radar", "int8") == bundle / "int8" / "radar.onnx"
    assert loaded.graph_file("imu", "int8") == loaded.graph_file("imu") == bundle / "imu.onnx"
    with pytest.raises(BundleError, match="holds fp32, int8, not fp16; fix: add it: peft-dml-train convert"):
        loaded.graph_file("radar", "fp16")
    with (bundle / "int8" / "radar.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleError, match=r"'int8/radar\.onnx' was altered"):
        load_bundle(bundle)
    edit(bundle, variants={"int8": {"sonar": "imu.onnx"}})
    with pytest.raises(BundleError, match="variant 'int8' of no graph: 'sonar'"):
        load_bundle(bundle)
