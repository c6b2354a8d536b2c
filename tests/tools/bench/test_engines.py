# SPDX-License-Identifier: Apache-2.0
"""The engine benchmark runs through on a small bundle and has every figure; its parts measure what they say."""

import json
import time
from contextlib import nullcontext

import numpy as np
import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.conversions import lidar_from_msg
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.bench import engines
from peft_dml_tools.bench.engines import compare
from peft_dml_tools.bench.growth import SUBSETS
from peft_dml_tools.bench.hot_path import cloud_message, listed, points
from peft_dml_tools.bench.timing import interleaved, slope
from peft_dml_tools.bundles.manifest import write_manifest
from tests.support.random_bundle import make_random_bundle


def test_every_figure_is_there_and_compares_with_an_older_one(tmp_path, monkeypatch):
    # The network of a made bundle has no recipe that PyTorch could be timed with.
    monkeypatch.setattr(engines, "EAGER_MODULE", "peft_dml_train.nothing")
    folder, out = make_random_bundle(tmp_path / "random"), str(tmp_path / "engines.json")
    (folder / "radar.int8.onnx").write_bytes((folder / "radar.onnx").read_bytes())
    losses = [{"subset": "lidar", "nds": 0.3}, {"subset": "radar", "nds": -0.1}]
    changes = {"variants": {"int8": {"radar": "radar.int8.onnx"}}, "metrics": {"precisions": {"int8": losses}}}
    write_manifest(folder, load_bundle(folder).manifest.model_copy(update=changes))
    call = ["bench", "engines", "--quick", "--bundle", str(folder), "--out", out]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "engines.json").read_text())
    assert len(report["subsets"]["frame_ms"]) == len(SUBSETS) == 31
    assert set(report["engines"]) == {"lidar", "camera", "radar", "imu", "gnss", "fusion"}
    wanted = {"cloud_decode_ms", "pillars_270k_ms", "jpeg6_ms", "nms500_ms", "rss_mb", "rss_growth_pct"}
    assert wanted | {"int8_over_fp32", "frame_over_engines_p50"} <= set(report["summary"])
    assert report["summary"]["frame_over_engines_p50"] > 1
    assert report["summary"]["int8_nds_loss"] == 0.3
    older = {"summary": {"jpeg6_ms": 2.0, "gone": 1.0}, "machine": {"cores": 2}}
    assert ("summary.jpeg6_ms", 2.0, report["summary"]["jpeg6_ms"]) in list(compare(older, report))


def test_a_bundle_of_other_graphs_is_not_compared(tmp_path):
    bundle, other = (load_bundle(make_random_bundle(tmp_path / name)) for name in ("random", "int8"))
    for origin, refused in ((dict(bundle.manifest.files), False), ({"lidar.onnx": "0" * 64}, True)):
        manifest = other.manifest.model_copy(update={"provenance": {"precision": {"from": origin}}})
        write_manifest(other.path, manifest)
        with pytest.raises(ConfigError, match="delete it and convert") if refused else nullcontext():
            engines._conversion(load_bundle(other.path), bundle)


def test_both_ways_to_read_a_cloud_agree():
    msg = cloud_message(points(500, np.random.default_rng(0)))
    # Intensities from 0 to 1 are recognised as reflectance and scaled; the rest is equal to the bit.
    np.testing.assert_array_equal(np.delete(listed(msg), 3, axis=1), np.delete(lidar_from_msg(msg).points, 3, axis=1))


def test_processor_time_leaves_waiting_out():
    figures = interleaved({"busy": lambda: sum(range(200_000)), "waiting": lambda: time.sleep(0.01)}, 5)
    assert figures["waiting"]["wall_p50"] >= 10
    assert figures["waiting"]["p50"] < figures["busy"]["p50"]


def test_a_line_is_found():
    assert slope([1, 2, 3], [10, 12, 14]) == {"per_unit": pytest.approx(2), "at_zero": 8.0, "r2": 1.0}
