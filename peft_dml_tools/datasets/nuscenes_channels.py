# SPDX-License-Identifier: Apache-2.0
"""Channels of sets in nuScenes format: where their files lie, and which of the network's cameras they stand for."""

from pathlib import Path

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.spec import CameraSpec
from peft_dml_tools.datasets.file_source import camera_slots
from peft_dml_tools.datasets.nuscenes_tables import Tables, read_json
from peft_dml_tools.datasets.t4 import T4Tables


def open_tables(folder: Path, *, allow_missing: bool = False) -> Tables:
    """Return the tables of a version folder: of nuScenes, or of T4 1.0, whose sensors hold their calibration.

    Raises DataError: tables are missing; all of them are named.
    """
    path = folder / "sensor.json"
    sensors = read_json(path) if path.is_file() and not (folder / "calibrated_sensor.json").is_file() else []
    if sensors and isinstance(sensors, list) and isinstance(sensors[0], dict) and "translation" in sensors[0]:
        return T4Tables(folder, allow_missing=True)
    return Tables(folder, allow_missing=allow_missing)


def renamed_cameras(tables: Tables) -> dict[str, str]:
    """Return the network's slots of the cameras of a vehicle that has none of nuScenes' names."""
    cameras = {}
    for row in tables.rows("calibrated_sensor"):
        channel = tables.get("sensor", row["sensor_token"])["channel"]
        if row["camera_intrinsic"] and channel not in cameras:
            pose = SE3.from_quaternion_wxyz(row["rotation"], row["translation"])
            cameras[channel] = Sensor(channel, "camera", pose)
    return {} if cameras.keys() & set(CameraSpec().cameras) else camera_slots(cameras.values())


def keyframe_folders(root: Path, tables: Tables) -> dict[str, set[Path]]:
    """Return the folders of each sensor's keyframes, below the root: `samples/CHANNEL`, else what `filename` says."""
    names = {token: tables.renamed.get(channel, channel) for token, channel in tables.channel_of_calibration.items()}
    folders = {
        names[token]: {Path("samples", channel)}
        for token, channel in tables.channel_of_calibration.items()
        if (root / "samples" / channel).is_dir()
    }
    others = {token for token, name in names.items() if name not in folders}
    for row in tables.rows("sample_data") if others else ():
        if row["calibrated_sensor_token"] in others and row["is_key_frame"]:
            folders.setdefault(names[row["calibrated_sensor_token"]], set()).add(Path(row["filename"]).parent)
    for token in others:  # sensors without a keyframe
        folders.setdefault(names[token], {Path("samples", tables.channel_of_calibration[token])})
    return folders
