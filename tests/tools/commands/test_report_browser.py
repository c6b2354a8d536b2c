# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser: controls in view at every width, one axis of time, keys, zoom, words on boxes."""

import re
from dataclasses import replace

import numpy as np
import pytest

from peft_dml_tools.evaluation.metrics import evaluate
from peft_dml_tools.report.build import write_report
from tests.support.browser import opened

STATE = "({ frame: STATE.frame, playing: STATE.playing, time: D.time[STATE.frame], zoom: PORT.zoom })"


@pytest.fixture(scope="module")
def report(recording, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(recording, evaluate(recording), path)
    return path


def centre_of_first_box(page):
    """Return the pixel of the best box of the frame in the page's window."""
    return page.evaluate("""() => {
        const box = shownBoxes(STATE.frame, options())[0], frame = SCENE.getBoundingClientRect();
        return [frame.left + px(box.y) / SCENE.width * frame.width, frame.top + py(box.x) / SCENE.height * frame.height,
                D.classes[box.label].replaceAll("_", " "), box.score.toFixed(2)];
    }""")


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844), (2560, 1300)])
def test_scene_and_controls_are_in_view_together(report, width, height):
    with opened(report, width=width, height=height, touch=width < 500) as (page, errors):
        page.evaluate("document.querySelector('.player').scrollIntoView({ block: 'start' })")
        scene, button = (page.locator(name).bounding_box() for name in ("#scene", "#play"))
        page.locator("#play").click()
        page.wait_for_timeout(300)
        assert page.locator("#scene").bounding_box() == scene, "pressing play scrolls the scene away"
        assert scene["y"] >= -1
        assert scene["y"] + scene["height"] <= button["y"] + 1
        assert button["y"] + button["height"] <= height
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('#timeline text')).fontSize)")
        drawn = page.evaluate("document.querySelector('#timeline svg').getBoundingClientRect().width / CHART.width")
        assert size * drawn >= 10, "letters of the charts are too small"
        assert errors == []


def test_keys_play_and_step_wherever_the_focus_is(report):
    with opened(report) as (page, errors):
        page.locator("#slider").click()
        page.keyboard.press("Space")
        assert page.evaluate(STATE)["playing"]
        page.wait_for_timeout(250)
        before = page.evaluate(STATE)["frame"]
        page.keyboard.press("ArrowRight")
        after = page.evaluate(STATE)
        assert not after["playing"]
        assert before < after["frame"] <= before + 3
        page.keyboard.press("ArrowLeft")
        assert page.evaluate(STATE)["frame"] == after["frame"] - 1
        assert errors == []


def test_slider_marks_and_charts_share_the_axis_of_time(recording, tmp_path):
    # Half of the frames are dropped: a slider by number would part from the faults, which are by time.
    kept = tuple(frame for i, frame in enumerate(recording.frames) if i < 10 or i % 4 == 0)
    path = tmp_path / "dropped.html"
    write_report(replace(recording, frames=kept), evaluate(recording), path)
    with opened(path) as (page, errors):
        found = page.evaluate("""() => {
            const slider = by("slider"), mark = document.querySelector("#marks span").style, fault = D.faults[0];
            const wide = CHART.width - CHART.left - CHART.right;
            const cursor = () => (Number(by("cursor").getAttribute("x1")) - CHART.left) / wide;
            show(D.time.length - 2);
            const part = (D.time[STATE.frame] - START) / (END - START);
            return { slider: (slider.value - slider.min) / (slider.max - slider.min), part, cursor: cursor(),
                     mark: parseFloat(mark.left) / 100, fault: (fault.from - START) / (END - START) };
        }""")
        assert found["slider"] == pytest.approx(found["part"], abs=0.01)
        assert found["cursor"] == pytest.approx(found["part"], abs=0.01)
        assert found["mark"] == pytest.approx(found["fault"], abs=0.01)
        assert errors == []


def test_zoom_pan_and_the_words_on_a_box(report):
    with opened(report) as (page, errors):
        page.evaluate("document.querySelector('.player').scrollIntoView({ block: 'start' })")
        x, y, name, score = centre_of_first_box(page)
        page.mouse.move(x, y)
        tip = page.locator("#tip").inner_text()
        assert name in tip
        assert f"score {score}" in tip
        assert "m/s" in tip or "stands" in tip
        page.locator("#zoom-in").click()
        page.locator("#zoom-in").click()
        assert page.evaluate(STATE)["zoom"] == pytest.approx(1.6**2)
        before = page.evaluate("PORT.y")
        frame = page.locator("#scene").bounding_box()
        page.mouse.move(frame["x"] + 300, frame["y"] + 300)
        page.mouse.down()
        page.mouse.move(frame["x"] + 400, frame["y"] + 300)
        page.mouse.up()
        assert page.evaluate("PORT.y") > before + 5
        page.locator("#zoom-reset").click()
        assert page.evaluate(STATE)["zoom"] == 1
        assert errors == []


def test_cameras_are_reached_and_enlarged_by_keyboard(report):
    with opened(report) as (page, errors):
        figure = page.locator("#views figure").first
        figure.focus()
        page.keyboard.press("Enter")
        assert figure.get_attribute("aria-pressed") == "true"
        assert errors == []


def test_without_scripts_the_page_says_so_and_keeps_its_tables(report):
    with opened(report, scripts=False) as (page, _):
        assert page.locator(".noscript").is_visible()
        assert not page.locator("#scene").is_visible()
        assert page.locator("table").first.is_visible()


def test_without_faults_and_truth_it_begins_where_all_sensors_work(recording, tmp_path):
    plain = replace(recording, faults=(), frames=tuple(replace(frame, truth=None) for frame in recording.frames))
    path = tmp_path / "plain.html"
    results = evaluate(plain)
    write_report(plain, results, path)
    with opened(path) as (page, errors):
        assert page.evaluate("D.state.rows[STATE.frame].every((code, i) => code === 0 || ABSENT[i])")
        assert "Accuracy" not in page.locator(".tables").inner_text()
        assert errors == []


def colours_of(words):
    """Return the (R, G, B) of a CSS text, in order."""
    return [tuple(map(int, found)) for found in re.findall(r"rgba?\((\d+), (\d+), (\d+)", words)]


def test_colours_of_points_and_boxes_are_those_of_the_legend(report):
    """A pixel of the scene, where one thing alone is drawn, is what the browser paints next to its name."""
    with opened(report) as (page, errors):
        legend = page.evaluate("""() => Object.fromEntries([...by("legend").querySelectorAll("span")].map((entry) => {
            const style = getComputedStyle(entry.querySelector("i"));
            return [entry.textContent, style.backgroundImage + style.backgroundColor];
        }))""")
        drawn = page.evaluate("""() => {
            const pixel = (x, y) => [...PEN.getImageData(Math.round(px(y)), Math.round(py(x)), 1, 1).data.slice(0, 3)];
            const { values, offsets } = D.lidar, points = [], boxes = {}, frame = STATE.frame;
            const heights = values.filter((_, i) => i % 3 === 2), sorted = [...heights].sort((a, b) => a - b);
            for (const height of [sorted[0], sorted.find((z) => z > 60), sorted[sorted.length - 1]]) {
                const i = heights.indexOf(height);
                D.lidar.offsets = [i, i + 1];
                drawGround();
                drawLidar(0);
                points.push([height / 100, pixel(values[3 * i] / 100, values[3 * i + 1] / 100)]);
            }
            D.lidar.offsets = offsets;
            drawGround();
            drawRadar(frame);
            const radar = rowsOf(D.radar, frame).map(([x, y]) => pixel(x / 100, y / 100));
            for (const box of shownBoxes(frame, options())) {
                drawGround();
                drawBox({ ...box, vx: 0, vy: 0 });
                const side = Math.max(box.width, 0.8) / 2, x = box.x - Math.sin(box.yaw) * side;
                boxes[D.classes[box.label].replaceAll("_", " ")] = pixel(x, box.y + Math.cos(box.yaw) * side);
            }
            return { points, radar, boxes };
        }""")
        ground, low, high = np.array(colours_of(legend["LiDAR point: ground, then by height"])[:3])
        (_, street), (middle_m, middle), (top_m, top) = drawn["points"]
        assert street == ground.tolist()
        for height_m, colour in ((middle_m, middle), (top_m, top)):
            assert height_m > 0.5
            np.testing.assert_allclose(colour, low + (high - low) * (height_m + 0.3) / 3, atol=35)
        assert np.abs(top - high).sum() < np.abs(middle - high).sum()
        assert drawn["radar"]
        assert {tuple(colour) for colour in drawn["radar"]} == {colours_of(legend["radar point, line: its speed"])[0]}
        assert len(drawn["boxes"]) >= 2
        assert drawn["boxes"] == {name: list(colours_of(legend[name])[0]) for name in drawn["boxes"]}
        assert errors == []
