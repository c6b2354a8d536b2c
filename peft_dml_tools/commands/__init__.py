# SPDX-License-Identifier: Apache-2.0
"""Commands that the tools add to `peft-dml`, registered by the entry point group `peft_dml.commands`."""

from typing import Final

#: Help line by command name. Command `x` is the function, or the group of commands, `x` of the module `x` here.
COMMANDS: Final[dict[str, str]] = {
    "doctor": "Check this machine and the running system; names every fix.",
    "bundle": "Inspect, verify or sign a model bundle, or build its TensorRT engines.",
    "adapter": "List, add, check, compare or merge adapters of a model bundle.",
    "status": "Show frame rate, sensors and gate weights of a running perception node.",
    "topics": "List topics with their rates.",
    "set": "Set or print a parameter of a running node.",
    "demo": "Drive, break sensors, watch the boxes: a whole ROS 2 session with a report, in one command.",
    "run": "Detect in a bag or a folder of recordings at full CPU speed; draws boxes and measures time and accuracy.",
    "simulate": "Write simulated scenes as a nuScenes folder.",
    "dataset": "Check a nuScenes folder: tables, references, times, geometry and files.",
    "bag": "Write a nuScenes scene as a ROS 2 bag, or a bag as a nuScenes folder.",
    "bench": "Measure seconds, memory and realism, each into a JSON file.",
    "chaos": "Break sensors, messages and processes in every way, and measure how the node takes it.",
    "fleet": "Run, simulate, evaluate and mine many drives on many machines (Ray).",
    "view": "Show a recording, or a running vehicle, in Foxglove.",
    "replay": "Publish a bag's sensors live, with scripted faults.",
}

#: Module of a command, where it is not called like the command
MODULES: Final = {"status": "live", "topics": "live", "set": "live"}
