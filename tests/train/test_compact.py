# SPDX-License-Identifier: Apache-2.0
"""A merged bundle keeps its large weights in 8 bit in one file: smaller, the same to every runtime, checked."""

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from peft_dml_ros.core.bundle import WEIGHTS, load_bundle
from peft_dml_ros.core.errors import BundleError, ConfigError
from peft_dml_ros.core.onnx_graph import outside_weights
from peft_dml_ros.engines import load_engines
from peft_dml_tools.bundles.merged_bundle import write_merged
from peft_dml_train.export import compact
from peft_dml_train.export.compact import compact_bundle, rounded_codes
from peft_dml_train.export.operators import operator_problems
from peft_dml_train.export.precision import convert_bundle, graph_feeds, half, quantise
from peft_dml_train.export.weights import folded
from peft_dml_train.loop.stages import new_network
from tests.support.exported import bundle_of
from tests.train.test_export_precision import random_inputs


@pytest.fixture(scope="module")
def bundles(config, tmp_path_factory):
    """The folders of a tiny base, of the bundle merged from it, and of its compact form."""
    folder = tmp_path_factory.mktemp("compact")
    base = bundle_of(new_network(config), folder / "base")
    merged = write_merged(base, folder / "merged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "LEAST", 512)
        yield base.path, merged, compact_bundle(merged, folder / "compact")


def sizes(folder, pattern="*.onnx"):
    return sum(path.stat().st_size for path in folder.glob(pattern))


def latents(bundle, frame, precision=""):
    feeds = graph_feeds(bundle, [frame])
    engines = load_engines(bundle, precision=precision)
    return {graph: engines[graph](feeds[graph][0])["latent"] for graph in ("lidar", "camera", "radar")}


def test_no_value_is_off_by_more_than_half_a_step_of_its_channel():
    weights = np.random.default_rng(0).normal(size=(3, 5, 3, 3)).astype(np.float32)
    weights[0] *= 1e-4
    weights[2] = 0.0
    codes, steps = rounded_codes(weights.astype(np.float16))
    assert (codes.dtype, codes.shape, steps.shape) == (np.int8, weights.shape, (3, 1, 1, 1))
    assert np.abs(codes).max(axis=(1, 2, 3)).tolist() == [127, 127, 0]
    assert (np.abs(codes * steps - weights.astype(np.float16)) <= 0.501 * steps).all()
    assert rounded_codes(np.asfortranarray(weights))[0].flags.c_contiguous  # else scrambled, see findings/


def test_it_is_a_quarter_of_the_size_and_computes_the_same(bundles, config):
    _, merged, small = bundles
    stored = load_file(small / WEIGHTS)
    assert {codes.dtype for codes in stored.values()} == {np.dtype(np.int8)}
    weights = sum(codes.size for codes in stored.values())
    assert load_bundle(small).manifest.provenance["compact"]["values"] == weights
    assert sizes(merged) - sizes(small) > 3.5 * weights
    frame = random_inputs(config.spec, 2)
    before, after = (latents(load_bundle(folder), frame) for folder in (merged, small))
    for graph, latent in before.items():
        assert 0 < np.abs(latent - after[graph]).max() < 0.1
        assert (latent * after[graph]).sum(axis=1).mean() > 0.999
    for graph in load_bundle(small).manifest.graphs:
        whole = load_bundle(small).graph(graph).content
        assert not outside_weights(whole)
        assert operator_problems(onnx.load_from_string(whole)) == []


def test_graphs_of_further_precisions_share_the_weights(bundles, config, tmp_path):
    frames = [random_inputs(config.spec, seed) for seed in range(2)]
    made = {}
    for folder in bundles[1:]:
        both = quantise(folder, frames, tmp_path / folder.name, add=True)
        made[folder.name] = half(both, both, add=True)
    small = load_bundle(made["compact"])
    grown = {p: (made["compact"] / files["camera"]).stat().st_size for p, files in small.manifest.variants.items()}
    assert set(grown) == {"int8", "fp16"}
    assert max(grown.values()) < 0.5 * (made["merged"] / "camera.int8.onnx").stat().st_size
    for precision in grown:
        own, theirs = (latents(load_bundle(folder), frames[0], precision)["camera"] for folder in made.values())
        assert (own * theirs).sum(axis=1).mean() > 0.999
    # Made compact with its precisions, it is the same.
    again = compact_bundle(made["merged"], tmp_path / "again")
    assert load_file(again / WEIGHTS).keys() == load_file(made["compact"] / WEIGHTS).keys()
    for precision in ("fp32", "int8", "fp16"):
        np.testing.assert_allclose(
            *(latents(load_bundle(f), frames[0], precision)["camera"] for f in (again, made["compact"])), atol=0.02
        )


def test_it_converts_and_merges_like_any_other(bundles, config, tmp_path):
    converted = load_bundle(convert_bundle(bundles[2], "fp16", tmp_path / "half"))
    assert converted.manifest.precision == "fp16"
    whole = write_merged(load_bundle(bundles[2]), tmp_path / "whole")
    assert not (whole / WEIGHTS).exists()
    frame = random_inputs(config.spec, 4)
    expected = latents(load_bundle(bundles[2]), frame)
    for graph, latent in latents(load_bundle(whole), frame).items():
        np.testing.assert_array_equal(latent, expected[graph])
    for graph, latent in latents(converted, frame).items():
        np.testing.assert_allclose(latent, expected[graph], atol=0.02)
    model = onnx.load(bundles[2] / "camera.onnx")
    assert len(folded(model).graph.node) < len(model.graph.node)


def test_an_altered_or_missing_weight_file_is_refused(bundles, tmp_path):
    folder = compact_bundle(bundles[1], tmp_path / "damaged")
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(BundleError, match=f"{WEIGHTS}"):
        load_bundle(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(BundleError, match=f"{WEIGHTS}"):
        load_bundle(folder)


def test_what_cannot_be_made_compact_is_refused_with_the_fix(bundles, tmp_path, monkeypatch):
    base, merged, small = bundles
    with pytest.raises(ConfigError, match="peft-dml adapter merge default --bundle"):
        compact_bundle(base, tmp_path / "x")
    with pytest.raises(ConfigError, match="compact already"):
        compact_bundle(small, tmp_path / "x")
    monkeypatch.setattr(compact, "LEAST", 10**9)
    with pytest.raises(ConfigError, match="no weight of 1000000000 values"):
        compact_bundle(merged, tmp_path / "x")
    assert not (tmp_path / "x").exists()
