# SPDX-License-Identifier: Apache-2.0
"""What a precision loses is found by subset and class, recorded, and refused where it is too much."""

import json

import pytest

from peft_dml_ros.core.bundle import MANIFEST, load_bundle
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import BundleError
from peft_dml_tools.bundles.manifest import write_manifest
from peft_dml_train.evaluation import precision_check
from peft_dml_train.evaluation.precision_check import all_subsets, check_precision, losses
from tests.support.random_bundle import make_random_bundle


def metrics(nds, car=0.5):
    ap = {c: {"0.5": 0.3, "2.0": 0.5} for c in CLASSES} | {"car": {"0.5": car - 0.1, "2.0": car + 0.1}}
    return {"nd_score": nds, "mean_ap": 0.4, "ap": ap}


@pytest.fixture
def bundle(tmp_path):
    folder = make_random_bundle(tmp_path / "random")
    (folder / "radar.int8.onnx").write_bytes((folder / "radar.onnx").read_bytes())
    counts = {"total": 100, "trained": 9, "share": 0.09}
    counts |= {"trained_low_rank_and_bottleneck": 4, "share_without_projections_fusion_head": 0.04}
    changes = {"variants": {"int8": {"radar": "radar.int8.onnx"}}, "parameters": counts}
    write_manifest(folder, load_bundle(folder).manifest.model_copy(update=changes))
    return folder


def run(bundle, monkeypatch, out, worse, **options):
    asked = []

    def evaluate(bundle, data, splits, subsets, out, cache=None, precision="", ranges_m=None, every=0):
        assert (ranges_m, every) == ((), 1)
        asked.append((precision, len(subsets)))
        return {"clear": {name: worse(name) if precision else metrics(0.6) for name in subsets}}

    monkeypatch.setattr(precision_check, "evaluate_bundle", evaluate)
    lines = check_precision(bundle, "int8", out, ("test",), out, **options)
    return asked, lines


def test_there_are_31_subsets():
    subsets = all_subsets()
    assert len(subsets) == 31
    assert next(iter(subsets)) == "lidar+camera+radar+imu+gnss"


def test_losses_are_points_of_nds_and_of_the_worst_class():
    (loss,) = losses({"lidar": metrics(0.6)}, {"lidar": metrics(0.596, car=0.485)})
    assert loss.nds == pytest.approx(0.4)
    assert loss.worst_class == "car"
    assert loss.worst_ap == pytest.approx(1.5)
    assert loss.within
    assert str(loss) == "ok   lidar: NDS -0.40, mAP -0.00, car -1.50 points"


def test_small_losses_pass_and_are_recorded(bundle, monkeypatch, tmp_path):
    asked, lines = run(bundle, monkeypatch, tmp_path, lambda name: metrics(0.597), record=True)
    assert len(list(lines)) == 31
    # Only radars are in 8 bit: 15 subsets without them run the same graphs.
    assert asked == [("", 16), ("int8", 16)]
    recorded = json.loads((bundle / MANIFEST).read_text())["metrics"]["precisions"]["int8"]
    assert len(recorded) == 31
    assert recorded[0]["nds"] == pytest.approx(0.3)
    assert load_bundle(bundle).precisions == ("fp32", "int8")
    card = (bundle / "MODEL_CARD.md").read_text()
    assert (
        "int8 against fp32 in 31 subsets of sensors: at most 0.30 points of NDS lost (lidar+camera+radar+imu+gnss)"
        in card
    )


@pytest.mark.parametrize("worse", [metrics(0.59), metrics(0.6, car=0.47)])
def test_one_subset_that_loses_too_much_is_named(bundle, monkeypatch, tmp_path, worse):
    _, lines = run(bundle, monkeypatch, tmp_path, lambda name: worse if name == "radar" else metrics(0.6))
    said = []
    with pytest.raises(BundleError, match=r"in 1 of 31 subsets, most in radar; fix: calibrate it on more frames"):
        said.extend(lines)
    assert said[0].startswith("LOST radar")
    assert all(line.startswith("ok") for line in said[1:])


def test_a_precision_that_the_bundle_lacks_is_refused(tmp_path):
    folder = make_random_bundle(tmp_path / "plain")
    with pytest.raises(BundleError, match="holds fp32, not int8; fix: add it: peft-dml-train convert"):
        list(check_precision(folder, "int8", tmp_path, ("test",), tmp_path))
