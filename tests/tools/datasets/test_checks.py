# SPDX-License-Identifier: Apache-2.0
"""Each rule finds the damage that it is for, and nothing in a whole folder."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peft_dml_ros.core.errors import ConfigError, DataError, PeftDmlError
from peft_dml_ros.core.jpeg import jpeg_damage, picture_header
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.checks import MODULES, RULES, Severity, check_dataset
from peft_dml_tools.datasets.checks.model import rule
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_images import read_image
from peft_dml_tools.datasets.source import open_source

VERSION = "v1.0-test-rig"
SPEC = ModelSpec()


def edit(root: Path, table: str, change) -> None:
    """Rewrites a table; `change` alters the list of records in place."""
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


def setting(table: str, number: int, **fields):
    """Damage: other values in one record."""
    return lambda root: edit(root, table, lambda rows: rows[number].update(fields))


def sensor_file(root: Path, channel: str) -> Path:
    return min((root / "samples" / channel).iterdir())


def cut(channel: str, size: int):
    """Damage: a file of a sensor without its last bytes."""

    def damage(root: Path) -> None:
        path = sensor_file(root, channel)
        path.write_bytes(path.read_bytes()[:-size])

    return damage


def _other_order(root: Path) -> None:
    path = root / "can_bus" / "scene-0001_ms_imu.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps(rows[::-1]))


def _move_to_sweeps(root: Path) -> None:
    def change(rows):
        row = next(r for r in rows if r["is_key_frame"])
        target = row["filename"].replace("samples/", "sweeps/")
        shutil.move(root / row["filename"], root / target)
        row["filename"] = target

    edit(root, "sample_data", change)


def _second_keyframe(rows) -> None:
    first = next(r for r in rows if r["is_key_frame"])
    other = next(r for r in rows if not r["is_key_frame"] and r["sample_token"] == first["sample_token"])
    other["is_key_frame"] = True


def _late_keyframe(rows) -> None:
    next(r for r in rows if r["is_key_frame"])["timestamp"] += 300_000


def _cross(rows) -> None:
    rows[1]["next"] = rows[5]["token"]


def _backwards(rows) -> None:
    rows[1]["timestamp"] = rows[0]["timestamp"] - 1


def _no_keyframes_of_camera(rows) -> None:
    for row in rows:
        if "CAM_FRONT" in row["filename"]:
            row["is_key_frame"] = False


def _twice(rows) -> None:
    rows.append(dict(rows[0]))


def _jump(rows) -> None:
    rows[10]["translation"][0] += 50.0


def _grey_below(root) -> None:
    """The middle of an image lost, its end intact: decoders show what is above, and grey."""
    path = sensor_file(root, "CAM_FRONT")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 4) + data[len(data) * 3 // 4 :])


DAMAGE = [
    ("STR001", (lambda root: (root / VERSION / "visibility.json").unlink())),
    ("STR002", (lambda root: (root / VERSION / "category.json").write_text('[{"token": "a'))),
    ("STR002", (lambda root: (root / VERSION / "category.json").write_text('{"token": "a"}'))),
    ("STR003", lambda root: edit(root, "sample_annotation", lambda rows: rows[0].pop("size"))),
    ("STR003", setting("ego_pose", 3, rotation=[1.0, 0.0, float("nan"), 0.0])),
    ("STR003", setting("sample", 1, timestamp="1600000000000000")),
    ("STR004", lambda root: edit(root, "attribute", _twice)),
    ("STR005", (lambda root: (root / VERSION / "splits.json").write_text('{"train": ["scene-0009"]}'))),
    ("STR005", (lambda root: (root / VERSION / "splits.json").write_text("[1]"))),
    ("STR005", (lambda root: (root / VERSION / "splits.json").write_text('{"train":'))),
    ("STR006", (lambda root: (root / "maps" / "m.png").unlink())),
    ("STR007", setting("scene", 0, name="parking lot")),
    ("REF001", setting("sample_data", 4, ego_pose_token="0" * 32)),
    ("REF001", setting("sample_annotation", 0, attribute_tokens=["1" * 32])),
    ("REF002", lambda root: edit(root, "sample_data", _cross)),
    ("REF003", setting("scene", 0, nbr_samples=7)),
    ("REF004", lambda root: edit(root, "sample_data", _no_keyframes_of_camera)),
    ("REF005", lambda root: edit(root, "sample_data", _second_keyframe)),
    ("REC001", lambda root: edit(root, "sample", _backwards)),
    ("REC002", setting("sample", 0, timestamp=1_600_000_000)),
    ("STR003", setting("sample", 0, timestamp=1_600_000_000_000_000_000)),
    ("REC003", lambda root: edit(root, "sample_data", _late_keyframe)),
    ("REC004", setting("ego_pose", 7, timestamp=1_600_000_000_000_007)),
    ("REC005", setting("sample_annotation", 2, num_lidar_pts=-1)),
    ("GEO001", setting("calibrated_sensor", 0, rotation=[1.0, 1.0, 0.0, 0.0])),
    ("GEO002", setting("calibrated_sensor", 0, translation=[411.3, 1180.9, 0.0])),
    ("GEO003", setting("calibrated_sensor", 3, camera_intrinsic=[])),
    ("GEO003", setting("calibrated_sensor", 3, camera_intrinsic=[[1200.0, 0, 800], [0, 1200, 450], [0, 0, 1.0]])),
    ("GEO004", lambda root: edit(root, "ego_pose", _jump)),
    ("GEO005", setting("sample_annotation", 0, size=[1.9, 0.0, 1.6])),
    ("GEO006", setting("sample_annotation", 0, size=[1.9, 4600.0, 1.6])),
    ("GEO006", setting("sample_annotation", 0, translation=[0.0, 0.0, 0.0])),
    ("FMT001", (lambda root: sensor_file(root, "RADAR_FRONT").unlink())),
    ("FMT002", cut("LIDAR_TOP", 7)),
    ("FMT002", (lambda root: sensor_file(root, "LIDAR_TOP").write_bytes(b""))),
    ("FMT003", cut("LIDAR_TOP", 8000)),
    ("FMT004", cut("RADAR_FRONT", 40)),
    ("FMT004", (lambda root: sensor_file(root, "RADAR_FRONT").write_bytes(b"VERSION 0.7\nDATA ascii\n"))),
    ("FMT005", cut("CAM_FRONT", 300)),
    ("FMT005", (lambda root: sensor_file(root, "CAM_FRONT").write_text("<html>404</html>"))),
    ("FMT005", _grey_below),
    ("FMT005", setting("sample_data", -1, width=1600)),
    ("FMT006", _move_to_sweeps),
    ("FMT007", (lambda root: (root / "can_bus" / "scene-0001_ms_imu.json").write_text('[{"utime": 1}, {"ut'))),
    ("FMT007", (lambda root: (root / "can_bus" / "scene-0001_pose.json").write_text('[{"pos": []}]'))),
    ("FMT008", _other_order),
    ("FMT009", (lambda root: (root / "can_bus" / "scene-0002_ms_imu.json").unlink())),
    ("FMT010", (lambda root: (root / "sweeps" / "LIDAR_TOP" / "left.part").write_bytes(b"x"))),
]


def test_a_whole_folder_has_no_finding(mini):
    report = check_dataset(mini)
    assert not report.broken, [outcome.as_dict() for outcome in report.broken]
    assert report.passed(strict=True)
    assert len(report.outcomes) == len(RULES)
    assert report.records["sample"] == 6
    assert check_dataset(mini / VERSION).records == report.records


@pytest.mark.parametrize(("rule_id", "damage"), DAMAGE, ids=[f"{d[0]}-{i}" for i, d in enumerate(DAMAGE)])
def test_damage_is_found_by_its_rule(mini_copy, rule_id, damage):
    damage(mini_copy)
    report = check_dataset(mini_copy)
    found = {outcome.rule.id: outcome for outcome in report.broken}
    assert rule_id in found, sorted(found)
    assert found[rule_id].count >= len(found[rule_id].examples) >= 1
    assert all(example.where and example.what for example in found[rule_id].examples)
    assert report.passed() == (not any(o.rule.severity is Severity.ERROR for o in report.broken))


def test_every_rule_has_a_test_and_a_mend():
    assert {rule_id for rule_id, _ in DAMAGE} == set(RULES)
    assert all(r.fix and r.title and r.check.__module__ in {m.__name__ for m in MODULES} for r in RULES.values())
    for taken_or_malformed in ("STR001", "XYZ001", "GEO1"):
        with pytest.raises(ValueError, match="given once"):
            rule(taken_or_malformed, Severity.INFO, "", "")(lambda _: iter(()))


def test_bytes_and_records_are_named(mini_copy):
    path = mini_copy / VERSION / "instance.json"
    path.write_text(path.read_text()[:500])
    cut("LIDAR_TOP", 7)(mini_copy)
    edit(mini_copy, "sample", lambda rows: rows[4].pop("timestamp"))
    found = {o.rule.id: o.examples[0] for o in check_dataset(mini_copy).broken}
    assert "at byte" in found["STR002"].what
    assert "of 500" in found["STR002"].what
    assert found["STR003"].where.endswith("sample.json record 4")
    assert "last whole point ends at byte 9980" in found["FMT002"].what


def test_damage_inside_an_image_is_found_and_padding_is_none(mini, real_keyframe):
    sound = sensor_file(mini, "CAM_FRONT").read_bytes()
    middle = len(sound) // 2
    damaged = (
        sound[:middle] + b"\xff\xd9",
        sound[:middle] + sound[middle + 200 :],
        sound[:middle] + bytes(200) + sound[middle + 200 :],
    )
    assert all(jpeg_damage(data) for data in damaged)
    assert not any(map(jpeg_damage, (sound, sound + bytes(500), sound[:-2] + b"\0\0\0" + sound[-2:], b"\x89PNG")))
    files = list(real_keyframe.glob("samples/CAM_*/*.jpg"))
    assert len(files) == 6
    assert not [path for path in files if jpeg_damage(path.read_bytes())]


def test_rules_and_groups_can_be_left_out(mini_copy):
    cut("LIDAR_TOP", 7)(mini_copy)
    assert not check_dataset(mini_copy).passed()
    report = check_dataset(mini_copy, exclude=("FMT002",))
    assert report.passed()
    assert report.excluded == ("FMT002",)
    assert len(check_dataset(mini_copy, exclude=("FMT", "GEO001")).excluded) == 11
    with pytest.raises(ConfigError, match=r"no rule 'GEO999'; did you mean 'GEO"):
        check_dataset(mini_copy, exclude=("GEO999",))


def test_many_findings_are_counted_but_not_kept(mini_copy):
    edit(mini_copy, "ego_pose", lambda rows: [row.update(rotation=[2.0, 0, 0, 0]) for row in rows])
    (outcome,) = check_dataset(mini_copy, examples=3).broken
    assert (outcome.rule.id, outcome.count, len(outcome.examples)) == ("GEO001", 110, 3)


@pytest.mark.parametrize("what", ["absent", "empty", "two versions"])
def test_what_is_no_data_set_is_refused(mini_copy, tmp_path, what):
    if what == "two versions":
        shutil.copytree(mini_copy / VERSION, mini_copy / "v1.0-other")
        with pytest.raises(DataError, match=r"there are: v1\.0-other, v1\.0-test-rig; fix: name one, .*v1\.0-other"):
            check_dataset(mini_copy)
        for folder in (mini_copy, mini_copy / VERSION):
            assert check_dataset(folder, version=VERSION).passed(strict=True)
        return
    folder = tmp_path / "nothing"
    if what == "empty":
        folder.mkdir()
    with pytest.raises(DataError, match="nothing"):
        check_dataset(folder)


def test_real_keyframe_has_only_its_known_gaps(real_keyframe):
    report = check_dataset(real_keyframe)
    assert [outcome.rule.id for outcome in report.broken] == ["REF004"]
    assert "without RADAR_BACK_LEFT, RADAR_BACK_RIGHT, RADAR_FRONT_LEFT" in report.broken[0].examples[0].what
    assert report.passed()
    assert not report.passed(strict=True)


def test_image_headers_tell_the_size(mini, tmp_path):
    import cv2

    assert picture_header(read_image(sensor_file(mini, "CAM_FRONT")))[:2] == (320, 180)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((7, 11, 3), np.uint8))
    assert picture_header(read_image(tmp_path / "a.png"))[:2] == (11, 7)


# ---------------------------------------------------------------- the reader on damaged folders
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut("LIDAR_TOP", 7), r"LIDAR_TOP.*cut off within the point that starts at byte 9980"),
        (cut("RADAR_FRONT", 40), r"RADAR_FRONT.*promises 20 points of 43 bytes from byte \d+ on, but ends at byte \d+"),
        (cut("CAM_FRONT", 300), r"CAM_FRONT.*cut off: it stops at byte \d+"),
        (_grey_below, r"CAM_FRONT.*is damaged inside \(.*\); fix: copy it again"),
        (
            (lambda root: sensor_file(root, "CAM_FRONT").write_text("<html>404</html>")),
            r"CAM_FRONT.*neither JPEG nor PNG: it begins with 3c 68 74",
        ),
        (
            (lambda root: (root / VERSION / "sample.json").write_text('[{"token": "a", "ti')),
            r"sample\.json cannot be read as JSON at byte 16 of 19",
        ),
        (
            lambda root: edit(root, "sample_data", lambda rows: rows[6].pop("prev")),
            r"sample_data\.json: record 6: lacks 'prev'",
        ),
        (
            (lambda root: (root / "can_bus" / "scene-0001_ms_imu.json").write_text('[{"utime": null}]')),
            r"scene-0001_ms_imu\.json: message 0 is not as it must be",
        ),
    ],
)
def test_the_reader_names_what_is_damaged(mini_copy, damage, message):
    damage(mini_copy)
    with pytest.raises(DataError, match=message):
        for _ in open_source(mini_copy, scene="scene-0001").measurements():
            pass


KINDS = ("LIDAR_TOP", "RADAR_FRONT", "CAM_FRONT")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_sensor_files_raise_nothing_else(mini_copy, data):
    channel = data.draw(st.sampled_from(KINDS))
    reader = NuScenesReader(mini_copy)
    record = next(r for r in reader.tables.rows("sample_data") if f"samples/{channel}" in r["filename"])
    path = mini_copy / record["filename"]
    original = path.read_bytes()
    payload = bytearray(original[: data.draw(st.integers(0, len(original)))])
    limit = max(len(payload) - 1, 0)
    for place in data.draw(st.lists(st.integers(0, min(limit, 700)), max_size=8)) if payload else ():
        payload[place] = data.draw(st.integers(0, 255))
    path.write_bytes(payload)
    try:
        reader.load(record)
    except DataError as error:
        assert path.name in str(error)  # noqa: PT017  may or may not be raised
    finally:
        path.write_bytes(original)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_checks_and_reader_survive_any_table(mini_copy, data):
    """Tables cut anywhere, or with any value in a field: findings and this package's errors, but nothing else."""
    path = data.draw(st.sampled_from(sorted((mini_copy / VERSION).glob("*.json"))))
    original = path.read_text()
    rows = json.loads(original)
    if data.draw(st.booleans()) or not isinstance(rows, list):
        changed = original[: data.draw(st.integers(0, len(original) - 1))]
    else:
        record = rows[data.draw(st.integers(0, len(rows) - 1))]
        key = data.draw(st.sampled_from(sorted(record)))
        scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
        record[key] = data.draw(scalar | st.lists(scalar, max_size=4) | st.dictionaries(st.text(max_size=2), scalar))
        changed = json.dumps(rows)
    path.write_text(changed)
    with suppress(PeftDmlError):
        reader = NuScenesReader(mini_copy)
        for token in reader.samples()[:2]:
            reader.snapshot(token, SPEC)
            reader.truth(token)
    try:
        report = check_dataset(mini_copy)
        json.dumps(report.as_dict())
    except DataError as error:
        assert VERSION in str(error) or "tables" in str(error)  # noqa: PT017  may or may not be raised
    finally:
        path.write_text(original)


def test_a_damaged_sample_does_not_hide_the_others(mini_copy):
    cut("CAM_FRONT", 300)(mini_copy)
    reader = NuScenesReader(mini_copy)
    first, second = reader.samples("scene-0001")[:2]
    with pytest.raises(DataError, match="CAM_FRONT"):
        reader.snapshot(first, SPEC)
    assert reader.snapshot(second, SPEC).cameras


def test_a_log_without_a_field_is_one_finding(mini_copy):
    path = next(mini_copy.glob("*/log.json"))
    rows = json.loads(path.read_text())
    del rows[0]["date_captured"]
    path.write_text(json.dumps(rows))
    assert [
        outcome.rule.id for outcome in check_dataset(mini_copy).broken if outcome.rule.severity.value == "error"
    ] == ["STR003"]
