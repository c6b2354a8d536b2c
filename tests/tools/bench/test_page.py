# SPDX-License-Identifier: Apache-2.0
import json
import re
import runpy

import pytest

GROUPS = ("car", "pedestrian", "truck", "motorcycle")


@pytest.fixture(scope="module")
def figures(repository):
    return json.loads((repository / "bench" / "data.json").read_text(encoding="utf-8"))


def test_page_shows_the_figures_of_the_benchmark(repository, figures):
    script = runpy.run_path(str(repository / "docs" / "make_realism.py"))
    page = (repository / "docs" / "realism.md").read_text(encoding="utf-8")
    assert script["section"](figures) in page, "run docs/make_realism.py"


def test_pictures_of_the_page_are_there_and_small(repository):
    page = (repository / "docs" / "realism.md").read_text(encoding="utf-8")
    names = re.findall(r"\]\((images/[^)]+)\)", page)
    assert len(names) >= 5
    for name in names:
        assert 10_000 < (repository / "docs" / name).stat().st_size <= 400_000, name


def test_a_scene_of_20_s_is_simulated_and_exported_within_its_limits(figures):
    assert figures["scene"] == {"image_width_px": 704, "camera_hz": 12.0, "lidar_hz": 20.0, "seconds": 20.0}
    assert [row["scenes"] for row in figures["by_scenes"]] == [1, 2, 4]
    assert figures["within_limits"] == dict.fromkeys(figures["limits"], True)
    short, long = (figures["by_length"][i]["export"] for i in (0, -1))
    assert long["bag_mb"] > 3 * short["bag_mb"]
    # Four times the length: only the tables, read whole, are larger.
    assert long["peak_mb"] - short["peak_mb"] < 0.05 * (long["bag_mb"] - short["bag_mb"])


def test_table_is_of_enough_scenes_and_tells_what_is_outside(figures):
    realism = figures["realism"]
    assert realism["scenes"] >= 12
    assert {row["group"] for row in realism["rows"]} >= set(GROUPS)
    assert realism["outside"] == [f"{r['group']}: {r['name']}" for r in realism["rows"] if not r["within_1_5"]]
    sizes = [r for r in realism["rows"] if r["group"] in GROUPS and r["name"] in {"length", "width", "height"}]
    assert len(sizes) == 12
    assert all(row["within_1_5"] for row in sizes)
