# SPDX-License-Identifier: Apache-2.0
import base64
import json
import re

import cv2
import numpy as np
import pytest

from peft_dml_ros.core.box_wireframes import pixels_from_boxes
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_tools.demo.picture import write_picture
from peft_dml_tools.drawing.cameras import draw_wireframes
from peft_dml_tools.evaluation.metrics import evaluate
from peft_dml_tools.report.build import write_report
from tests.tools.commands.fabricated import truth


@pytest.fixture(scope="module")
def page(recording, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(recording, evaluate(recording), path, details="Bundle <demo>.")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(page) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_page_loads_nothing_from_elsewhere(page):
    without_data = re.sub(r'id="data">.*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(
        r"(?:src|href)\s*=\s*[\"'](?!data:)|url\((?!#)|@import|fetch\(|XMLHttpRequest|https?://", without_data
    )


def test_page_has_every_part(page):
    for part in ('id="scene"', 'id="views"', 'id="lamps"', 'id="slider"', 'id="timeline"', 'id="legend"', "<table>"):
        assert part in page
    assert "{{" not in re.sub(r"<script.*", "", page, flags=re.DOTALL)
    assert "Bundle &lt;demo&gt;." in page
    assert page.count("<h3>") == 5


def test_page_stays_small(page):
    assert len(page) < 15e6


def test_boxes_come_back_as_they_were(data, recording):
    boxes = data["boxes"]
    rows = np.frombuffer(base64.b64decode(boxes["data"]), np.float32).reshape(-1, boxes["width"])
    assert boxes["offsets"] == np.cumsum([0, *(len(frame.boxes) for frame in recording.frames)]).tolist()
    assert np.allclose(rows[:3, :3], recording.frames[0].boxes.centers_m, atol=1e-5)
    assert rows[:3, 9].tolist() == [0, 5, 1]


def test_a_silent_lidar_has_no_points_and_a_dark_lamp(data):
    offsets = np.array(data["lidar"]["offsets"])
    points = np.diff(offsets)
    # The sweep just before the fault is near enough to the first frame without LiDAR to be drawn there.
    assert (points[9:12] == 0).all()
    assert (points[:8] > 0).all()
    lidar = [sensor["name"] for sensor in data["sensors"]].index("LIDAR_TOP")
    codes = [row[lidar] for row in data["state"]["rows"]]
    assert [data["state"]["reasons"][code] for code in codes[7:14]] == ["in use", *["stale"] * 5, "in use"]


def test_projection_of_the_page_hits_the_box(data, recording):
    view = data["views"][0]["views"]["CAM_FRONT"]
    matrix = np.array(view["projection"]).reshape(3, 4)
    x, y, depth = matrix @ [*truth(0.0).centers_m[0], 1.0]
    # 10.5 m ahead of the camera, 0.5 m to the left and 0.7 m below it; the picture is 20 ms old: 0.1 m less.
    assert depth == pytest.approx(10.5 + 0.1, abs=1e-3)
    assert (x / depth, y / depth) == (
        pytest.approx(200 - 250 * 0.5 / 10.6, abs=0.1),
        pytest.approx(112 + 250 * 0.7 / 10.6, abs=0.1),
    )


def test_wires_behind_the_camera_are_cut(recording):
    sensor = recording.rig["CAM_FRONT"]
    matrix = pixels_from_boxes(sensor, SE3.identity(), 400)
    neighbour = Boxes3D.make(np.array([[2.0, 1.5, 1.6]]), np.array([[6.0, 1.0, 1.0]]), np.zeros(1), np.array([0]))
    behind = Boxes3D.make(np.array([[-9.0, 0.0, 1.6]]), np.array([[4.0, 2.0, 1.0]]), np.zeros(1), np.array([0]))
    pixels = np.zeros((225, 400, 3), np.uint8)
    draw_wireframes(pixels, behind, matrix)
    assert not pixels.any()
    draw_wireframes(pixels, neighbour, matrix)
    assert pixels[:, :200].any()
    assert not pixels[:, 220:].any()


def test_picture_shows_both_states(recording, tmp_path):
    write_picture(recording, tmp_path / "picture.png")
    pixels = cv2.imread(str(tmp_path / "picture.png"))
    assert pixels.shape[1] > 1.5 * pixels.shape[0]
    assert pixels.std() > 10
