# SPDX-License-Identifier: Apache-2.0
"""What viewers open fits the node: every topic in it is there, every class has its colour."""

import json
import runpy

import pytest
import yaml

from peft_dml_ros.conversions.topics import topic_of
from peft_dml_ros.core.classes import CLASS_COLOURS, MODALITIES
from peft_dml_ros.core.spec import CameraSpec
from peft_dml_tools.datasets.bag_topics import bag_topic
from peft_dml_tools.live.foxglove_server import GATE, SENSORS
from peft_dml_tools.node_interface import inputs, outputs


@pytest.fixture
def script(repository):
    return runpy.run_path(str(repository / "docs" / "make_viewers.py"))


@pytest.fixture
def topics():
    return {bag_topic(t.name.replace("~/", "/perception/")) for t in (*inputs(), *outputs())}


@pytest.mark.parametrize("name", ["vision_colours.yaml", "perception.rviz", "foxglove.json"])
def test_files_are_up_to_date(repository, script, name):
    text = (repository / "config" / name).read_text(encoding="utf-8")
    assert text == script["FILES"][name](), "run docs/make_viewers.py"


def test_every_class_has_its_colour(repository):
    table = yaml.safe_load((repository / "config" / "vision_colours.yaml").read_text(encoding="utf-8"))
    assert table == {name: {"r": r, "g": g, "b": b} for name, (r, g, b) in CLASS_COLOURS.items()}


def test_rviz_shows_lidar_radars_boxes_and_a_picture(repository, topics):
    tree = yaml.safe_load((repository / "config" / "perception.rviz").read_text(encoding="utf-8"))
    displays = [d for d in tree["Visualization Manager"]["Displays"] if "Topic" in d]
    # Relative names, so that RViz in a vehicle's namespace shows that vehicle.
    shown = [d["Topic"]["Value"] for d in displays]
    assert not [name for name in shown if name.startswith("/")]
    assert {bag_topic(name) for name in shown} <= topics
    kinds = [d["Class"].rpartition("/")[2] for d in displays]
    assert (kinds.count("PointCloud2"), kinds.count("MarkerArray"), kinds.count("Image")) == (6, 2, 1)


def test_foxglove_shows_the_same_and_the_diagnostics(repository, topics):
    tree = json.loads((repository / "config" / "foxglove.json").read_text(encoding="utf-8"))
    panels = tree["configById"]

    def leaves(node):
        return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])

    assert sorted(leaves(tree["layout"])) == sorted(panels)
    assert {name.partition("!")[0] for name in panels} == {"3D", "Image", "DiagnosticSummary", "Plot", "RawMessages"}
    plotted = [path["value"].removesuffix(".data") for path in panels["Plot!time"]["paths"]]
    assert plotted[0] == "/perception/debug/total_ms"
    cameras = [panel for name, panel in panels.items() if name.startswith("Image!")]
    assert {camera["imageMode"]["imageTopic"] for camera in cameras} == {
        bag_topic(topic_of(name)) for name in CameraSpec().cameras
    }
    # What a recording holds: pictures with boxes drawn into them are not recorded.
    assert all("/perception/markers" in camera["topics"] for camera in cameras)
    assert {"/perception/markers", "/perception/track_markers"} <= set(panels["3D!above"]["topics"])
    shown = {*panels["3D!above"]["topics"], *plotted}
    shown |= {topic for camera in cameras for topic in (*camera["topics"], *camera["imageMode"].values())}
    assert shown <= topics
    assert panels["DiagnosticSummary!all"]["topicToRender"] in topics
    # These are made by `peft-dml view` of the node's status.
    assert [path["value"] for path in panels["Plot!gate"]["paths"]] == [f"{GATE}.{m}" for m in MODALITIES]
    assert panels["RawMessages!sensors"]["topicPath"] == SENSORS
