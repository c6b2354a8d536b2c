# SPDX-License-Identifier: Apache-2.0
"""Writes what RViz and Foxglove open, from the tables of sensors, topics and colours: `python docs/make_viewers.py`."""

import json
from pathlib import Path
from typing import Any

import yaml

from peft_dml_ros.conversions.topics import BASE_FRAME, camera_info_topic_of, topic_of
from peft_dml_ros.core.classes import CLASS_COLOURS, MODALITIES
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.nodes.interface import NODE, STAGES, overlay_topic
from peft_dml_tools.datasets.bag_topics import bag_topic

FRONT = "CAM_FRONT"
CAMERA_ROWS = (("CAM_FRONT_LEFT", FRONT, "CAM_FRONT_RIGHT"), ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"))
CUBES = "track"  #: Namespace of the tracks' own cubes: those of the boxes are shown, and of tracks the ids and trails
HEAD = "# SPDX-License-Identifier: Apache-2.0\n# Made by `python docs/make_viewers.py`.\n"
RADARS = [name for name in ALL_SENSORS if modality_of_channel(name) == "radar"]
LIDARS = [name for name in ALL_SENSORS if modality_of_channel(name) == "lidar"]


def below_node(topic: str) -> str:
    """Return a topic of the node, relative to its namespace."""
    return topic.replace("~/", f"{NODE}/")


def colours() -> str:
    """Return colours by class, in the form that vision_msgs_rviz_plugins reads."""
    table = {name: dict(zip("rgb", rgb, strict=True)) for name, rgb in CLASS_COLOURS.items()}
    return HEAD + yaml.safe_dump(table, sort_keys=False)


def display(kind: str, name: str, topic: str, *, reliable: bool = False, **settings: Any) -> dict[str, Any]:
    """Return one display of RViz."""
    quality = {
        "Value": topic,
        "Depth": 5,
        "Reliability Policy": "Reliable" if reliable else "Best Effort",
        "Durability Policy": "Volatile",
        "History Policy": "Keep Last",
    }
    return {
        "Class": f"rviz_default_plugins/{kind}",
        "Name": name,
        "Enabled": True,
        **settings,
        "Topic": quality,
        "Value": True,
    }


def rviz() -> str:
    """Return clouds of LiDAR and radars, boxes with their velocities, tracks, the front camera with boxes."""
    points = {"Style": "Points", "Position Transformer": "XYZ"}
    displays = [
        {"Class": "rviz_default_plugins/Grid", "Name": "Grid", "Enabled": True, "Cell Size": 10, "Plane Cell Count": 10}
        | {"Color": "80; 80; 80", "Value": True},
        {"Class": "rviz_default_plugins/TF", "Name": "Frames", "Enabled": False, "Value": False},
        *(
            display("PointCloud2", name, topic_of(name), **points, **{"Size (Pixels)": 2})
            | {"Color Transformer": "Intensity", "Channel Name": "intensity"}
            for name in LIDARS
        ),
        *(
            display("PointCloud2", name, topic_of(name), **points, **{"Size (Pixels)": 6})
            | {"Color Transformer": "FlatColor", "Color": "255; 60; 60"}
            for name in RADARS
        ),
        display("MarkerArray", "Boxes and velocities", below_node("~/markers"), reliable=True),
        display("MarkerArray", "Ids and trails of tracks", below_node("~/track_markers"), reliable=True)
        | {"Namespaces": {CUBES: False}},
        display("Image", "Front camera with boxes", below_node(overlay_topic(FRONT))),
    ]
    manager = {
        "Class": "",
        "Displays": displays,
        "Enabled": True,
        "Global Options": {"Background Color": "20; 20; 24", "Fixed Frame": BASE_FRAME, "Frame Rate": 30},
        "Name": "root",
        "Tools": [{"Class": f"rviz_default_plugins/{tool}"} for tool in ("MoveCamera", "Select", "Measure")],
        "Value": True,
        "Views": {
            "Current": {"Class": "rviz_default_plugins/Orbit", "Name": "Behind and above", "Distance": 60}
            | {"Pitch": 0.75, "Yaw": 3.14, "Target Frame": BASE_FRAME, "Focal Point": {"X": 0, "Y": 0, "Z": 0}}
        },
    }
    panels = [{"Class": f"rviz_common/{name}", "Name": name} for name in ("Displays", "Views", "Time")]
    window = {"Width": 1600, "Height": 1000}
    tree = {"Panels": panels, "Visualization Manager": manager, "Window Geometry": window}
    return HEAD + yaml.safe_dump(tree, sort_keys=False, width=120)


def camera(name: str, objects: dict[str, Any]) -> dict[str, Any]:
    """Return a panel that draws the objects into a camera's pictures, by its calibration: also of a recording."""
    topics = {"imageTopic": bag_topic(topic_of(name)), "calibrationTopic": bag_topic(camera_info_topic_of(name))}
    return {"imageMode": topics, "topics": objects}


def side_by_side(panels: list[str]) -> Any:
    """Return panels next to each other, all of one width."""
    if len(panels) == 1:
        return panels[0]
    return {"first": panels[0], "second": side_by_side(panels[1:])} | {
        "direction": "row",
        "splitPercentage": round(100 / len(panels)),
    }


def foxglove() -> str:
    """Return the same as a Foxglove layout, with diagnostics, gate weights and the time of each stage."""
    clouds = {bag_topic(topic_of(n)): {"visible": True, "pointSize": 2, "colorMode": "colormap"} for n in LIDARS}
    clouds = {t: c | {"colorField": "intensity", "colorMap": "turbo"} for t, c in clouds.items()}
    flat = {"visible": True, "pointSize": 6, "colorMode": "flat", "flatColor": "#ff3c3c"}
    clouds |= {bag_topic(topic_of(name)): flat for name in RADARS}
    boxes = {f"/{NODE}/markers": {"visible": True}}
    objects = boxes | {f"/{NODE}/track_markers": {"visible": True, "namespaces": {CUBES: {"visible": False}}}}
    lines = [
        {
            "value": f"/{NODE}/debug/{stage}_ms.data",
            "label": f"{stage} ms",
            "enabled": True,
            "timestampMethod": "receiveTime",
        }
        for stage in ("total", *(stage for stage in STAGES if stage != "total"))
    ]
    panels: dict[str, Any] = {
        "3D!above": {
            "cameraState": {"perspective": True, "distance": 60, "phi": 45, "thetaOffset": 90, "fovy": 45}
            | {"target": [0, 0, 0], "targetOffset": [0, 0, 0], "near": 0.5, "far": 5000},
            "followMode": "follow-pose",
            "followTf": BASE_FRAME,
            "scene": {"backgroundColor": "#141418"},
            "topics": {**clouds, **objects},
            "layers": {"grid": {"layerId": "foxglove.Grid", "visible": True, "size": 100, "divisions": 10}},
        },
        **{f"Image!{name.lower()}": camera(name, boxes) for row in CAMERA_ROWS for name in row},
        "DiagnosticSummary!all": {"topicToRender": "/diagnostics", "minLevel": 0, "sortByLevel": True}
        | {"pinnedIds": [], "hardwareIdFilter": ""},
        "Plot!time": {"paths": lines, "minYValue": 0, "xAxisVal": "timestamp", "showLegend": True, "isSynced": True},
    }
    panels["Plot!gate"] = panels["Plot!time"] | {
        "paths": [
            {"value": f"/view/gate.{m}", "label": f"gate {m}", "enabled": True, "timestampMethod": "receiveTime"}
            for m in MODALITIES
        ]
    }
    panels["RawMessages!sensors"] = {"topicPath": "/view/sensors", "diffEnabled": False}
    plots = {"first": "Plot!time", "second": "Plot!gate", "direction": "row", "splitPercentage": 50}
    left = {"first": "3D!above", "second": plots, "direction": "column", "splitPercentage": 72}
    states = {"first": "DiagnosticSummary!all", "second": "RawMessages!sensors", "direction": "column"}
    states |= {"splitPercentage": 60}
    top, bottom = (side_by_side([f"Image!{name.lower()}" for name in row]) for row in CAMERA_ROWS)
    cameras = {"first": top, "second": bottom, "direction": "column", "splitPercentage": 50}
    right = {"first": cameras, "second": states, "direction": "column", "splitPercentage": 50}
    layout = {"first": left, "second": right, "direction": "row", "splitPercentage": 62}
    whole = {"configById": panels, "globalVariables": {}, "userNodes": {}, "playbackConfig": {"speed": 1}}
    return json.dumps({**whole, "layout": layout}, indent=1) + "\n"


FILES = {"vision_colours.yaml": colours, "perception.rviz": rviz, "foxglove.json": foxglove}

if __name__ == "__main__":
    for name, make in FILES.items():
        (Path(__file__).parents[1] / "config" / name).write_text(make(), encoding="utf-8")
