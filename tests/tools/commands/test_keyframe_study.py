# SPDX-License-Identifier: Apache-2.0
"""The table of the real keyframe: how cars are counted, and that a turn turns points and truth alike."""

from itertools import product

import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.run.keyframe_study import VARIANTS, _changer, _turn, figures, inside, study
from peft_dml_tools.run.offline import OfflineDetector

CAR, CONE = CLASSES.index("car"), CLASSES.index("traffic_cone")
GAINS = ("intensity × 0.25", "intensity × 4", "intensity × 60")
WHOLE = (("as recorded", "LiDAR"), ("as recorded", "all"))


def boxes(rows):
    x, y, yaw, label, score = np.array(rows, dtype=np.float64).T
    return Boxes3D.make(
        np.stack([x, y, 0 * x + 1], axis=1), np.tile([4.0, 2.0, 1.5], (len(rows), 1)), yaw, label.astype(np.int64),
        scores=score,
    )  # fmt: skip


def test_cars_found_and_false_and_headings():
    truth = boxes([(10, 0, 0.1, CAR, 1), (20, 5, 1.5, CAR, 1), (30, 0, 0, CONE, 1)])
    found = boxes([
        (10.5, 0, 0.1 + np.pi, CAR, 0.9),  # the other way round is the same axis
        (21, 5, 1.2, CAR, 0.25),
        (40, 0, 0, CAR, 0.5),  # nothing there
        (30, 0.5, 0, CAR, 0.4),  # a cone is no car
        (10, 0, 0, CAR, 0.1),  # too faint
        (30, 1, 0, CONE, 0.6),
    ])  # fmt: skip
    row = figures(found, truth)
    assert (row["cars"], row["cars_found"], row["cars_false"], row["false_boxes"]) == (2, 2, 2, 2)
    assert row["axis_error_rad"] == pytest.approx(0.15)
    assert row["boxes"] == {"car": 4, "traffic_cone": 1}
    assert figures(Boxes3D.empty(), truth)["cars_found"] == 0


def test_cars_outside_the_grid_are_not_asked_for():
    truth = boxes([(10, 0, 0, CAR, 1), (0, -51, 0, CAR, 1), (60, 5, 0, CAR, 1), (5, 51.3, 0, CAR, 1)])
    assert inside(truth, ModelSpec().grid).centers_m[:, 0].tolist() == [10, 0]


def test_a_turn_turns_points_and_truth_alike(real_keyframe):
    reader = NuScenesReader(real_keyframe, allow_missing=True)
    (token,) = reader.samples()
    rig, truth = reader.rig(token), reader.truth(token)
    variant = next(v for v in VARIANTS if v.turn_rad > 1.5)
    snapshot = _changer(variant, rig, alone=True)(reader.snapshot(token, ModelSpec()))
    assert snapshot.present == ("lidar",)
    place = rig["LIDAR_TOP"].base_SE3_sensor
    inside = []
    for sweep, wanted in (
        (reader.snapshot(token, ModelSpec()), truth),
        (snapshot, truth.transform(_turn(rig, variant.turn_rad))),
    ):
        points = place.transform(sweep.lidar["LIDAR_TOP"][0].points[:, :3].astype(np.float64))
        inside.append(wanted.contain(points).sum(axis=1))
    assert np.abs(inside[0] - inside[1]).sum() <= 0.01 * inside[0].sum()


def test_a_table_with_any_bundle(real_keyframe, bundle):
    reader = NuScenesReader(real_keyframe, allow_missing=True)
    (token,) = reader.samples()
    rig = reader.rig(token)
    rows = list(study(OfflineDetector(NodeParams(bundle=str(bundle)), rig, tuple(rig.sensors)), reader, token))
    assert {row["variant"] for row in rows} == {variant.name for variant in VARIANTS}
    by_name = {(row["variant"], row["sensors"]): replace_name(row) for row in rows}
    # Diagnosis of real sensors, 2. Another scale is recognised and brought back.
    for gain, sensors in product(GAINS, ("LiDAR", "all")):
        assert by_name[gain, sensors] == by_name["as recorded", sensors]


def replace_name(row):
    return {key: value for key, value in row.items() if key != "variant"}


@pytest.fixture(scope="module")
def shipped(real_keyframe, repository):
    """Rows of the shipped bundle by variant and sensors."""
    reader = NuScenesReader(real_keyframe, allow_missing=True)
    (token,) = reader.samples()
    rig = reader.rig(token)
    offline = OfflineDetector(NodeParams(bundle=str(repository / "models" / "demo")), rig, tuple(rig.sensors))
    variants = [v for v in VARIANTS if not v.turn_rad]
    return {(row["variant"], row["sensors"]): row for row in study(offline, reader, token, variants)}


def test_grey_pictures_lower_nothing_of_what_the_other_sensors_see(shipped):
    """Diagnosis of real sensors, 3: keyframes do not pass the intake, so that the detector must refuse them."""
    assert replace_name(shipped["grey pictures", "all"]) == replace_name(shipped["no pictures", "all"])


def test_more_sensors_find_no_fewer_cars_and_pictures_take_none_away(shipped):
    """Diagnosis of real sensors, 3: one frame had 14 of 25 cars by LiDAR alone, 9 with all sensors."""
    alone, together, blind = (shipped[key] for key in (*WHOLE, ("no pictures", "all")))
    assert together["cars_found"] >= max(alone["cars_found"], blind["cars_found"])
    assert together["car_ap_2m"] >= max(alone["car_ap_2m"], blind["car_ap_2m"])


@pytest.mark.parametrize("gain", GAINS)
def test_gains_of_the_intensity_keep_the_boxes_of_each_class_within_a_fifth(shipped, gain):
    """Diagnosis of real sensors, 2: a gain of 4 made 27 cones of 7, photon counts 155 of 200 boxes."""
    for as_recorded in WHOLE:
        counts, now = shipped[as_recorded]["boxes"], shipped[gain, as_recorded[1]]["boxes"]
        assert {name: now.get(name) for name in counts} == pytest.approx(counts, rel=0.2)
        assert shipped["no intensity", as_recorded[1]]["boxes"] != counts, "the intensity matters"


CHANGES = [*(f"{by} m in height" for by in ("-0.5", "-0.2", "+0.2", "+0.5")), "every second beam", "half of the points"]


@pytest.mark.parametrize("change", CHANGES)
def test_heights_and_beams_of_other_lidars_cost_at_most_two_cars(shipped, change):
    """Diagnosis of real sensors, 4; half a metre took barriers from 12 of 22 to 1 to 5."""
    for as_recorded in WHOLE:
        before, now = shipped[as_recorded], shipped[change, as_recorded[1]]
        assert now["cars_found"] >= max(before["cars_found"] - 2, 1)
        assert now["boxes"]["barrier"] >= 0.3 * before["boxes"]["barrier"]
