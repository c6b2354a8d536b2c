# SPDX-License-Identifier: Apache-2.0
"""Every graph in every precision is built for RTX cards, without a GPU, and has the types that it is meant to have."""

import json

import pytest

from peft_dml_ros.core.errors import EngineError
from peft_dml_ros.engines.tensorrt_library import load_tensorrt
from peft_dml_train.export.engine_builds import CONFIGS, RECORD, bundle_sources, config_sources, rows_of
from tests.train.test_nuscenes_recipe import SMALL

try:
    LIBRARY = load_tensorrt("tensorrt-rtx")
except EngineError as error:
    pytest.skip(str(error), allow_module_level=True)

GRAPHS = ("lidar", "camera", "radar", "imu", "gnss", "fusion")
TYPES = {
    "fp32": ({"float"}, {"half", "int8"}),
    "fp16": ({"float", "half"}, {"int8"}),
    "int8": ({"float", "int8"}, {"half"}),
}
"""By precision, types that the large graphs must hold, and that none may hold."""


def check(source, stored_in_half=False):
    rows = list(rows_of(source, LIBRARY))
    assert len(rows) == 3 * 6
    for row in rows:
        wanted, forbidden = TYPES[row["precision"]]
        forbidden = forbidden - {"half"} if stored_in_half else forbidden
        assert not forbidden & set(row["types"]), row
        if row["graph"] in {"lidar", "camera", "radar", "fusion"}:
            assert wanted <= set(row["types"]), row
        assert row["plan_bytes"] > 64 << 10
    return {(row["precision"], row["graph"]): row["layers"] for row in rows}


def test_both_weights_of_a_small_configuration_build_to_the_same_layers():
    base, merged = map(check, config_sources(("tiny",)))
    assert base == merged
    # Casts and Quantize/Dequantize pairs are layers.
    assert base["fp32", "camera"] < base["fp16", "camera"] < base["int8", "camera"]


@pytest.mark.slow
def test_the_layers_of_the_nuscenes_recipe_build():
    check(next(config_sources(("nuscenes",), SMALL)))


@pytest.mark.parametrize("name", ["base", "demo"])
def test_shipped_bundles_build_as_bases_and_with_their_adapters(name):
    sources = list(bundle_sources((name,)))
    assert sources[0].weights == "base"
    layers = [check(source, stored_in_half=True) for source in sources]
    assert all(found == layers[0] for found in layers)


@pytest.mark.skipif(not RECORD.is_file(), reason="no record yet: python -m peft_dml_train.export.engine_builds")
def test_the_record_is_whole():
    stored = json.loads(RECORD.read_text())
    assert stored["capabilities"] == ["8.6", "8.9", "12.0"]
    found = {(row["source"], row["weights"]) for row in stored["builds"]}
    assert {(f"config {name}", weights) for name in CONFIGS for weights in ("base", "merged")} <= found
    for source, weights in found:
        rows = [row for row in stored["builds"] if (row["source"], row["weights"]) == (source, weights)]
        assert {(row["precision"], row["graph"]) for row in rows} == {(p, g) for p in TYPES for g in GRAPHS}
        assert all(row["layers"] > 10 and row["plan_bytes"] > 64 << 10 for row in rows)
