# SPDX-License-Identifier: Apache-2.0
"""Adapters merge into the weights of their base alone, and what does not fit is refused by name."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from peft_dml_ros.core.adapter import CARD, CONFIG, RANGES, WEIGHTS, load_adapter, low_rank_product
from peft_dml_ros.core.adapter_mix import parse_mix
from peft_dml_ros.core.bundle import ADAPTERS, BASE_WEIGHTS, load_bundle
from peft_dml_ros.core.errors import BundleError, ConfigError
from peft_dml_ros.core.verified_files import CALIBRATION, sha256
from peft_dml_ros.engines import load_engines
from peft_dml_tools.bundles.merged_bundle import part_distances, write_merged
from peft_dml_tools.bundles.signing import make_keys, sign
from tests.support.random_bundle import make_random_adapter, make_random_base, make_random_bundle

WEIGHT = "encoders.radar.mix.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A base with the adapters `default` and `rain`."""
    folder = make_random_base(tmp_path_factory.mktemp("base") / "random")
    for name, bias in (("default", 0.5), ("rain", -0.25)):
        make_random_adapter(folder / ADAPTERS / name, folder, name, bias=bias)
    return folder


def gain(bundle):
    """What the radar's graph makes of its weight."""
    feeds = {n: np.zeros(s, d) for n, (s, d) in load_engines(bundle)["radar"].inputs.items()}
    return float(load_engines(bundle)["radar"](feeds)["latent"].flat[0])


def edit_card(folder, **changes):
    card = json.loads((folder / CARD).read_text())
    names = {*card["files"], *(name for name in (CALIBRATION, RANGES) if (folder / name).is_file())}
    card["files"] = {name: sha256(folder / name) for name in names}
    (folder / CARD).write_text(json.dumps(card | changes))


def test_a_bundle_runs_with_its_default_adapter_and_off_is_the_base(base):
    mixes = {name: load_bundle(base, adapter=name) for name in ("default", "none", "rain")}
    assert str(load_bundle(base).adapters) == "default"
    assert [str(b.adapters) for b in mixes.values()] == list(mixes)
    weights = load_file(base / BASE_WEIGHTS)
    stored = load_file(base / ADAPTERS / "rain" / WEIGHTS)
    a, b = (stored[f"base_model.model.encoders.radar.mix.lora_{end}.weight"].astype(np.float32) for end in "AB")
    merged = weights[WEIGHT].astype(np.float32) + 2 * b @ a
    found = mixes["rain"].adapters.weights(weights, [WEIGHT, "head.bias"])
    np.testing.assert_allclose(found[WEIGHT], merged, atol=1e-6)
    assert found["head.bias"] == np.float32(-0.25)
    ratio = merged.mean() / weights[WEIGHT].astype(np.float32).mean()
    assert gain(mixes["rain"]) / gain(mixes["none"]) == pytest.approx(ratio, rel=1e-4)
    assert len({b.graph("radar").sha256 for b in mixes.values()}) == 3
    assert len({b.identity for b in mixes.values()}) == 3


def test_two_adapters_are_mixed_by_weight(base):
    weights = load_file(base / BASE_WEIGHTS)
    names = [WEIGHT, "head.bias"]
    one, other, mixed = (
        load_bundle(base, adapter=text).adapters.weights(weights, names)
        for text in ("default", "rain", "default=0.25,rain=0.75")
    )
    for name in names:
        np.testing.assert_allclose(mixed[name], 0.25 * one[name] + 0.75 * other[name], atol=1e-5)
    assert str(load_bundle(base, adapter="default=0.25,rain=0.75").adapters) == "default=0.25,rain=0.75"
    half = load_bundle(base, adapter="rain=0.5").adapters.weights(weights, names)
    assert half["head.bias"] == np.float32(-0.125)


@pytest.mark.parametrize("text", ["a=x", "a,a", "a=2", "a=0.8,b=0.8", "=1", "a=-1"])
def test_a_mix_that_says_nothing_sensible_is_refused(text):
    with pytest.raises(ConfigError, match="adapter"):
        parse_mix(text)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "shape"),
    [((2, 5), (7, 2), (7, 5)), ((2, 5, 3, 3), (7, 2, 1, 1), (7, 5, 3, 3)), ((2, 5, 3), (7, 2, 1), (7, 5, 3))],
)
def test_products_are_those_of_the_layers(shape_a, shape_b, shape):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=shape_a), rng.normal(size=shape_b)
    wanted = np.einsum("or,ri...->oi...", b.reshape(7, 2), a)
    np.testing.assert_allclose(low_rank_product(a, b, shape), wanted, atol=1e-6)


def test_temperatures_and_ranges_come_from_the_adapter(base, tmp_path):
    folder = make_random_adapter(tmp_path / "snow", base, "snow")
    (folder / CALIBRATION).write_text(json.dumps({"temperature": {"10000": 2.0}}))
    (folder / RANGES).write_text(json.dumps({"radar": {"x": 3.0}}))
    edit_card(folder)
    bundle = load_bundle(base, adapter=str(folder))
    assert bundle.temperature(("lidar",)) == 2.0
    assert bundle.adapters.ranges("radar") == {"x": 3.0}
    mixed = load_bundle(base, adapter=f"{folder}=0.5,rain=0.5")
    assert mixed.temperature(("lidar",)) == 1.5
    (folder / RANGES).write_text(json.dumps({"radar": {"x": float("nan")}}))
    edit_card(folder)
    with pytest.raises(BundleError, match="not finite"):
        load_bundle(base, adapter=str(folder))


def cut(folder):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-40])
    edit_card(folder)


def poison(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.head.bias"] = np.array([np.nan], np.float32)
    save_file(tensors, folder / WEIGHTS)
    edit_card(folder)


def misfit(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.encoders.radar.mix.lora_B.weight"] = np.zeros((9, 2), np.float16)
    save_file(tensors, folder / WEIGHTS)
    edit_card(folder)


def exotic(folder):
    config = json.loads((folder / CONFIG).read_text()) | {"use_dora": True}
    (folder / CONFIG).write_text(json.dumps(config))
    edit_card(folder)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (
            lambda f: edit_card(f, base="0" * 64, base_name="winter"),
            "belongs to base 'winter' 0{12}, but random",
        ),
        (lambda f: edit_card(f, schema_version=7), "no adapter of schema 1"),
        (lambda f: edit_card(f, rank=3), "rank is 3 in 'adapter.json', 2 in 'adapter_config.json'"),
        (
            lambda f: (f / CARD).write_text('{"name": "ba'),
            "no adapter of schema 1: adapter.json: Invalid JSON: [^\n]*; fix: ",
        ),
        (lambda f: (f / WEIGHTS).write_bytes(b"x"), "was altered"),
        (lambda f: (f / CONFIG).unlink(), "'adapter_config.json' is missing"),
        (lambda f: (f / CALIBRATION).write_text('{"temperature": {}}'), "'calibration.json' has no sha256"),
        (cut, "cannot be read"),
        (poison, "'head.bias' has values that are not finite"),
        (misfit, r"'encoders.radar.mix.weight' of shape \(9, 32\) does not fit, the base has shape \(24, 32\)"),
        (exotic, "option 'use_dora' of peft is not supported"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(base, tmp_path, harm, reason):
    folder = make_random_adapter(tmp_path / "bad", base, "bad")
    assert load_bundle(base, adapter=str(folder)).graph("radar")
    harm(folder)
    with pytest.raises(BundleError, match=reason):
        load_bundle(base, adapter=str(folder)).graph("radar")


def test_names_that_there_are_not_are_told_with_those_there_are(base, tmp_path):
    with pytest.raises(BundleError, match=r"no adapter 'rian' for this base.*did you mean 'rain'"):
        load_bundle(base, adapter="rian")
    plain = make_random_bundle(tmp_path / "plain")
    assert str(load_bundle(plain).adapters) == "none"
    with pytest.raises(BundleError, match=r"has no base\.safetensors: its graphs hold merged weights"):
        load_bundle(plain, adapter="rain")


def test_a_node_that_trusts_one_key_takes_no_other_adapter(base, tmp_path):
    pytest.importorskip("minisign")
    key = make_keys(tmp_path / "key").to_base64().decode()
    folder = make_random_adapter(tmp_path / "signed", base, "signed")
    digest = load_bundle(base, adapter="none").manifest.base["sha256"]
    with pytest.raises(BundleError, match="is not signed"):
        load_adapter(folder, digest, "random", key)
    sign(folder / CARD, tmp_path / "key")
    assert load_adapter(folder, digest, "random", key).card.name == "signed"
    edit_card(folder, description="changed")
    with pytest.raises(BundleError, match="signature"):
        load_adapter(folder, digest, "random", key)


def test_five_adapters_take_little_memory(base, tmp_path):
    names = [str(make_random_adapter(tmp_path / n, base, n)) for n in "abcde"]
    parts = load_bundle(base, adapter=",".join(f"{name}=0.2" for name in names)).adapters.parts
    files = sum((adapter.path / WEIGHTS).stat().st_size for adapter, _ in parts)
    assert sum(adapter.size_bytes for adapter, _ in parts) <= files


def test_a_merged_bundle_needs_no_base_and_computes_the_same(base, tmp_path):
    mixed = load_bundle(base, adapter="default=0.5,rain=0.5")
    merged = load_bundle(write_merged(mixed, tmp_path / "merged"))
    assert not (merged.path / BASE_WEIGHTS).exists()
    assert gain(merged) == gain(mixed)
    assert merged.manifest.adapter["name"] == "default=0.5,rain=0.5"
    with pytest.raises(ConfigError, match="exists"):
        write_merged(mixed, tmp_path / "merged")


def test_distances_name_the_parts_that_differ(base):
    rain, off = (load_bundle(base, adapter=name) for name in ("rain", "none"))
    apart = {part.name: part for part in part_distances(rain, off)}
    assert apart.keys() == {"head.bias", *(f"encoders.{m}" for m in ("lidar", "camera", "radar", "imu", "gnss"))}
    assert all(part.differing == part.weights == 1 for part in apart.values())
    assert apart["encoders.radar"].relative > 0.1
    assert all(part.differing == 0 for part in part_distances(rain, rain))


def test_a_base_that_was_altered_is_refused(base, tmp_path):
    folder = tmp_path / "altered"
    shutil.copytree(base, folder)
    content = bytearray((folder / BASE_WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / BASE_WEIGHTS).write_bytes(content)
    with pytest.raises(BundleError, match=r"'base\.safetensors' was altered"):
        load_bundle(folder)
