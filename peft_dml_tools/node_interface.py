# SPDX-License-Identifier: Apache-2.0
"""What the perception node takes in and gives out, by name. Docs and access policies are made from it."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from peft_dml_ros.conversions import autoware, topics
from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.nodes.interface import STAGES, cameras_of, overlay_topic

LISTENED, LATCHED, EACH_SECOND = "each frame that is listened to", "latched", "once a second"
DRAWN: Final = "frames listened to, as many as a quarter of a core draws"

OBJECTS: Final = {
    "objects": "the boxes for Autoware",
    "tracked_objects": "the tracks for Autoware",
    "predicted_objects": "the tracks with the path of their motion, 5 s ahead",
}


class Topic(NamedTuple):
    """One topic."""

    name: str  #: Relative, absolute, or `~/` for below the node's name
    type: str  #: Message type
    when: str  #: How often
    meaning: str  #: In words


def outputs(sensors: Sequence[str] = ALL_SENSORS) -> list[Topic]:
    """Return everything that a node with these sensors publishes on topics of its own."""
    return [
        Topic("~/detections", topics.DETECTIONS, LISTENED, "boxes with class, score and covariance; also when empty"),
        Topic("~/velocities", topics.POINT_CLOUD, LISTENED, "velocity and attribute, in the order of the boxes"),
        Topic("~/markers", topics.MARKERS, LISTENED, "boxes and velocity arrows, for viewers"),
        *(
            Topic(overlay_topic(c), topics.COMPRESSED_IMAGE, DRAWN, f"image of {c} with boxes")
            for c in cameras_of(sensors)
        ),
        Topic(
            "~/tracks", topics.DETECTIONS, LISTENED, "tracked boxes: `id` stays the same, also through sensor dropout"
        ),
        Topic("~/track_markers", topics.MARKERS, LISTENED, "tracks with ids and trails, for viewers"),
        *(
            Topic(f"~/{name}", f"{autoware.PACKAGE}/msg/{kind}", f"{LISTENED}, with autoware:=true", OBJECTS[name])
            for name, kind in autoware.TOPICS.items()
        ),
        Topic("~/status", "diagnostic_msgs/msg/DiagnosticArray", LISTENED, "mask, gate weights, ages, every sensor"),
        *(Topic(f"~/debug/{stage}_ms", "std_msgs/msg/Float32", LISTENED, f"time of stage {stage}") for stage in STAGES),
        Topic("~/label_info", "vision_msgs/msg/LabelInfo", LATCHED, "class names and the score threshold"),
        Topic("~/vision_info", "vision_msgs/msg/VisionInfo", LATCHED, "name and version of the model"),
        Topic(
            "~/adapter_choice", "diagnostic_msgs/msg/DiagnosticStatus", LATCHED, "what the router chose, why, and fits"
        ),
        Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", EACH_SECOND, "state of the node and its sensors"),
    ]


def inputs(sensors: Sequence[str] = ALL_SENSORS) -> list[Topic]:
    """Return everything that a node with these sensors may subscribe to."""
    found = []
    for name in sensors:
        other = "".join(f", or {kind}" for kind in topics.other_types_of(name))
        found.append(Topic(topics.topic_of(name), topics.type_of(name), "", f"{name}{other}"))
        if modality_of_channel(name) == "camera":
            found.append(Topic(topics.camera_info_topic_of(name), topics.CAMERA_INFO, "", f"{name}, calibration"))
            found.append(Topic(topics.raw_image_topic_of(name), topics.IMAGE, "", f"{name}, where none compressed"))
    found.append(Topic(topics.TF_STATIC, topics.TRANSFORMS, "", "sensor frames below `base_link`"))
    return found


_OF_EVERY_NODE: Final = ("/rosout", "/parameter_events")
_LIFECYCLE: Final = (
    "change_state",
    "get_available_states",
    "get_available_transitions",
    "get_state",
    "get_transition_graph",
)
_PARAMETERS: Final = (
    "describe_parameters",
    "get_parameter_types",
    "get_parameters",
    "list_parameters",
    "set_parameters",
    "set_parameters_atomically",
)
SERVICES: Final = tuple(f"~/{name}" for name in (*_LIFECYCLE, *_PARAMETERS, "get_type_description", "use_adapter"))


def published() -> list[str]:
    """Return every topic that the node publishes, also as each node does."""
    return [*(topic.name for topic in outputs()), "~/transition_event", *_OF_EVERY_NODE]


def subscribed() -> list[str]:
    """Return every topic that the node may subscribe to, also as each node does."""
    return [*(topic.name for topic in inputs()), "/clock"]
