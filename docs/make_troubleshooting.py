# SPDX-License-Identifier: Apache-2.0
"""Fills the tables of docs/troubleshooting.md from the code that they explain: `python docs/make_troubleshooting.py`.

The words for reasons of drops stand here; a test compares their keys with the reasons that the code counts.
"""

from pathlib import Path

from peft_dml_ros.core.health import State
from peft_dml_tools.commands.doctor import machine, system  # noqa: F401  they register their rules
from peft_dml_tools.commands.doctor.rules import RULES
from peft_dml_tools.markdown_pages import fill_section, markdown_table

PAGE = Path(__file__).with_name("troubleshooting.md")

STATES = {
    State.OK: ("it is used", ""),
    State.LATE: (
        "it is used; its next measurement is overdue",
        "look at the driver's rate and the load of the machine",
    ),
    State.STALE: (
        "its newest usable measurement is too old",
        "see why it stopped; `health.max_age_*_s`, `health.max_ages`",
    ),
    State.MISSING: ("nothing ever came", "the log names topic and fix after `startup_timeout_s`; `peft-dml doctor`"),
    State.FROZEN: ("the same payload comes again and again", "restart the driver; `health.frozen_after`"),
    State.DEGRADED: (
        "too few or too many invalid points, a dark, blank or damaged image",
        "clean or uncover it; `health.min_lidar_points`, `health.min_image_*`, `health.max_invalid_share`",
    ),
    State.CLOCK: ("its stamps are far from the clock", "synchronise it (PTP, chrony), or set `sync.offsets`"),
    State.UNCALIBRATED: (
        "no static transform, or no CameraInfo that fits its images",
        "the log names the transform or topic; or give `calibration:=FILE`",
    ),
}
"""Meaning and fix of each state."""

DROPS = {
    "malformed": ("the message contradicts itself, is cut short or too large; the log says how", "repair the driver"),
    "failed": ("an unexpected error while a message was handled; the log has it", "report it"),
    "uncalibrated": (
        "its mounting or projection is not known, or of another shape than its images",
        "see UNCALIBRATED",
    ),
    "unconfirmed": (
        "one CameraInfo differed from those before and after it: it was damaged, and the calibration stays as it was",
        "none if rare; a camera whose calibration changes with every image cannot be used",
    ),
    "points not finite": ("points with NaN or infinite coordinates, each counted", "usual for organised clouds"),
    "too many points not finite": ("most of a sweep is invalid", "see DEGRADED"),
    "too few points": ("hardly any point beyond 1 m", "see DEGRADED"),
    "dark image": ("the mean grey level is low", "see DEGRADED"),
    "damaged image": ("a picture broken inside: the rest of it would be grey", "repair the driver or the network"),
    "blank image": ("the grey levels hardly differ", "see DEGRADED"),
    "stamp is 0": ("the driver does not stamp its messages", "let the driver stamp them; no message of it is used"),
    "stale": ("nothing came for longer than `health.max_age_*`", "see STALE"),
    "nothing ever came": ("its topic has no publisher, or nothing arrives from it", "see MISSING"),
    "frozen": ("the same payload under new stamps", "see FROZEN"),
    "duplicate stamp": (
        "two measurements of one sensor have one stamp",
        "repair the driver; two publishers on one topic?",
    ),
    "out of order": ("an older measurement after a newer one", "usual in small numbers over a network"),
    "stamp from the future": ("stamped ahead of the clock by more than `sync.max_future_s`", "see CLOCK"),
    "stamp from the past": (
        "behind the clock by more than `sync.max_past_s`, while other sensors agree with it",
        "see CLOCK",
    ),
    "stamp stepped back": ("far behind this sensor's own last stamp, while others go on", "see CLOCK"),
    "on probation after …": ("good again, but not yet often enough", "none; `health.readmit_after`"),
    "not configured": ("a measurement of a sensor that is not in `sensors`", "add it there"),
    "sweep without ego motion": (
        "an old sweep that cannot be moved to the present",
        "publish odometry, or IMU and GNSS",
    ),
    "corrupt image": ("an image cannot be decoded, or is damaged inside", "repair the driver or the network"),
    "not in the rig": ("a measurement without mounting reached the detector", "see UNCALIBRATED"),
    "candidate not finite": ("the network gave NaN for a box", "report it with the bundle"),
    "frame: superseded": ("the detector was busy, a newer frame took the place", "a faster engine, or fewer sensors"),
    "frame: stopped": ("the frame that waited when the node was deactivated", "none"),
    "frame: failed": ("the detector raised an error; the log has it", "report it"),
    "overlay: failed": ("a picture with boxes could not be made; the boxes were published", "see `corrupt image`"),
    "too many frames": (
        "`/tf_static` names more than 1000 frames, or one with a very long name; those that came first are kept",
        "find the node that invents names: `ros2 topic echo /tf_static`",
    ),
    "clock stepped back": (
        "most sensors are far behind themselves: all buffers were emptied",
        "usual when a bag loops",
    ),
    "reset": ("the ROS clock jumped: all buffers were emptied", "usual when a bag loops"),
}
"""Meaning and fix of each reason, as it ends: `LIDAR_TOP: frozen` is under `frozen`."""


HINTS = {
    "SEN001": ("messages of a sensor are refused; the reason follows", "as the reason says"),
    "SEN002": ("a sensor fell silent before the others", "see why it stopped: driver, cable, power"),
    "SEN101": ("a LiDAR's clouds have no intensity, or it is 0 everywhere", "`inputs.intensity_field`"),
    "SEN102": ("its median lies outside what the network was trained on", "`inputs.intensity_scale`"),
    "SEN103": ("the intensity counts something else, photons for example; it is not used", "`inputs.intensity_field`"),
    "SEN111": ("most points lie outside the network's range", "the transform that is named; metres"),
    "SEN112": ("the ground does not lie at z = 0 of `base_link`", "z of the LiDAR's transform"),
    "SEN113": ("no level ground in sight", "roll and pitch of the LiDAR's transform"),
    "SEN201": ("the principal point is far from the image's centre", "K and `binning_x`: one of them counts twice"),
    "SEN202": ("the focal lengths belong to no usual camera", "calibrate it again: pixels, not millimetres"),
    "SEN203": ("the optical axis of a camera points up or down", "publish the optical frame: z forward, x right"),
    "SEN204": ("images are undistorted here", "`inputs.rectified`, where they are rectified already"),
    "SEN205": ("images are of another shape than their calibration, and not used", "CameraInfo of their resolution"),
    "SEN301": ("acceleration is in g", "let the driver publish m/s²"),
    "SEN302": ("acceleration has no gravity in it", "publish it with gravity (REP-145)"),
    "SEN303": ("gravity does not lie along z", "the IMU's transform"),
    "SEN304": ("angular rate is in degrees a second", "let the driver publish rad/s"),
    "SEN311": ("a receiver claims a fix at 0°, 0°", "let it report STATUS_NO_FIX until it has one"),
    "SEN401": ("elevation of radar detections is not used", "none: the network takes radar as flat"),
}
"""Meaning and fix of each hint on sensors, by id."""


def fill(page: str) -> str:
    """Return the page with its tables replaced: rules of the doctor, states, reasons for drops, hints on sensors."""
    rules = [(name, rule.severity.value, rule.title) for name, rule in sorted(RULES.items())]
    tables = {
        "doctor": (("id", "severity", "what must hold"), rules),
        "states": (("state", "meaning", "fix"), [(s.value, *STATES[s]) for s in State]),
        "drops": (("reason", "meaning", "fix"), [(f"`{reason}`", *words) for reason, words in DROPS.items()]),
        "hints": (("id", "meaning", "fix"), [(name, *words) for name, words in sorted(HINTS.items())]),
    }
    for name, (head, rows) in tables.items():
        begin, end = f"<!-- {name}: made by docs/make_troubleshooting.py -->", f"<!-- end of {name} -->"
        page = fill_section(page, begin, markdown_table(head, rows), end)
    return page


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
