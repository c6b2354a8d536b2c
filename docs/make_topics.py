# SPDX-License-Identifier: Apache-2.0
"""Writes docs/topics.md from the tables that the node itself uses: `python docs/make_topics.py`."""

from pathlib import Path

from peft_dml_ros.nodes.interface import SERVICES, STAGES, Topic, inputs, outputs

HEAD = """# Topics

Made by `python docs/make_topics.py` from `nodes/interface.py`; do not edit by hand. A test compares the table with
a live node.

Names are relative: remap them (`-r lidar_top/points:=/velodyne/points`), or put all of them into a namespace, one
per vehicle (`namespace:=/v1`; `/tf_static` goes into it, too). `~` is the node, `/perception` unless renamed.
Sensors that are not there are left out; see [parameters](parameters.md) for `sensors` and `autodetect`,
[data](data.md) for the names of other makers.
"""
INPUTS = """
## In

Quality of service fits whatever the publishers offer, and follows when other publishers come.
Parameters may say otherwise, by the topic's full name:
`-p qos_overrides./lidar_top/points.subscription.reliability:=best_effort`; the policies are `reliability`,
`durability` and `depth`.

A radar may publish `radar_msgs/RadarScan` instead of a cloud, on the same topic: the node listens to the type that is
published, and `autodetect` finds both. Such returns know their Doppler speed only: the node finds the radar's own
velocity from the returns themselves, most of which are of things that stand still, and takes it out; where too few
agree, all are taken to stand, and in a queue where most returns are of vehicles that move alike, these are. The
amplitude counts as the radar cross section in dBsm. `radar_msgs` comes from the ROS distribution
(`ros-jazzy-radar-msgs`) or from `python interfaces/build.py`; without it, the log names the package.

"""
OUTPUTS = """
## Out

Published reliably, ten deep. What is made *each frame that is listened to* costs nothing while nobody subscribes;
the detector itself always runs, since the diagnostics tell of it.

"""
NOTES = """
- **Detections** carry the stamp of the frame's reference sensor and the frame `base_frame`, in the array's header
  and in each detection's. `bbox.center` is the geometric centre, `size` length, width, height. `results[0]` is the
  only one: class name in lower case, score in [0, 1], and the pose with the variances of x, y, z and yaw that the
  network predicted (all other entries are 0, which here means unknown). `id` is empty: nothing is tracked. A frame
  without objects is an empty array; silence means failure.
- **Velocities** are in a cloud of their own, because the message has no place for them: point *i* belongs to
  detection *i*, with the same header; fields `x y z vx vy` (m, m/s, in `base_frame`) and `attribute` (index into
  nuScenes' attributes, -1 for none).
- **Markers**: one namespace per class, and `velocity` for arrows that end where the box will be in a second.
- **Overlays** are drawn in a thread of its own, at lower priority: they never delay boxes. When drawing takes
  longer than a frame, the newest frame is drawn next. They are JPEG, at least 640 pixels wide where the camera is;
  bags of `recorder` leave them out.
- **Status** comes with every frame, **diagnostics** once a second; both hold the same: a status for the frame
  (mask, gate weight and age of each modality, time of each stage, drops by reason) and one for each sensor
  ([states](concepts.md#the-health-gate)).
- **Stages**: {stages}. `arrival` is the time from the stamp to the frame's start, `total` that to the publication.

## Services

{services}: those of a lifecycle node and of parameters. `ros2 lifecycle set /perception deactivate` pauses, with
the model kept warm.

## In a viewer

`config/perception.rviz` and `config/foxglove.json` (Foxglove: *Layouts*, *Import from file*) show clouds, boxes,
velocities, tracks, cameras with boxes, and in Foxglove the diagnostics, stage times, gate weights and sensor
states; `peft-dml view` serves a recording or this ROS domain to Foxglove, and the last two with it. RViz shows
`Detection3DArray` itself with the package `vision_msgs_rviz_plugins`, whose *YAML config* takes
`config/vision_colours.yaml`. All of these are installed to `share/peft_dml_ros/config`.
"""


def rows(topics: list[Topic], *, when: bool) -> str:
    """Return a table; topics that differ in one word are one row."""
    head = (
        "| topic | type | how often | what |\n|---|---|---|---|" if when else "| topic | type | sensor |\n|---|---|---|"
    )
    lines = [
        f"| `{t.name}` | {t.type.replace('/msg', '')} |{f' {t.when} |' if when else ''} {t.meaning} |"
        for t in topics
        if not (when and t.name.startswith("~/debug/"))
    ]
    if when:
        lines.append(
            "| `~/debug/<stage>_ms` | std_msgs/Float32 | each frame that is listened to | time of a stage, in ms |"
        )
    return "\n".join([head, *lines])


def page() -> str:
    """Return the whole page."""
    services = ", ".join(f"`{name}`" for name in SERVICES)
    notes = NOTES.format(stages=", ".join(f"`{s}`" for s in STAGES), services=services)
    return HEAD + INPUTS + rows(inputs(), when=False) + "\n" + OUTPUTS + rows(outputs(), when=True) + "\n" + notes


if __name__ == "__main__":
    Path(__file__).with_name("topics.md").write_text(page(), encoding="utf-8")
