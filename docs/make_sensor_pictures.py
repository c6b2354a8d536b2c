# SPDX-License-Identifier: Apache-2.0
"""Draws LiDAR sweeps and pictures as they look right, and with the usual faults.

python docs/make_sensor_pictures.py            # docs/images/sensors_*.png, of a simulated drive
python docs/make_sensor_pictures.py FOLDER     # every sweep in a folder, into FOLDER/pictures
"""

import sys
from pathlib import Path

import cv2
import numpy as np
from matplotlib import pyplot as plt

from peft_dml_ros.core.camera_view import decoded
from peft_dml_ros.core.cloud_checks import intensity_hint
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, LidarSweep
from peft_dml_ros.core.pillars import TRAINED
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.sensor_checks import SensorChecks
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import FloatArray, UInt8Array
from peft_dml_tools.datasets.point_files import read_sweep
from peft_dml_tools.datasets.sweep_folder import sweep_files
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_train.evaluation.palette_png import save_palette_png

IMAGES = Path(__file__).with_name("images")


def words(sweep: LidarSweep, mounting: SE3) -> str:
    """Return ids of the hints that a sweep gives."""
    found = SensorChecks(ModelSpec()).look("LIDAR_TOP", sweep, Sensor("LIDAR_TOP", "lidar", mounting))
    return ", ".join(hint.id for hint in found) or "no hint"


def side(axes: plt.Axes, sweep: LidarSweep, mounting: SE3, title: str) -> None:
    """Draw points from the side, with the ground and the network's range of heights."""
    points = mounting.transform(sweep.points[:, :3].astype(np.float64))
    near = points[(np.abs(points[:, 1]) < 12) & (np.abs(points[:, 0]) < 30)]
    axes.scatter(near[:, 0], near[:, 2], s=0.4, c="#2b6cb0", linewidths=0)
    axes.axhline(0, color="#dd6b20", lw=1)
    axes.axhspan(ModelSpec().lidar.z_min_m, ModelSpec().lidar.z_max_m, color="#dd6b20", alpha=0.07)
    axes.set(xlim=(-30, 30), ylim=(-8, 10), xlabel="x, m", ylabel="z, m", title=f"{title}: {words(sweep, mounting)}")


def above(axes: plt.Axes, sweep: LidarSweep, values: FloatArray, title: str) -> None:
    """Draw points from above, by their intensity as the network would get it, with the hints to it."""
    points = np.column_stack([sweep.points[:, :3], values, sweep.points[:, 4]]).astype(np.float32)
    near = (np.abs(points[:, :2]) < 25).all(axis=1)
    x, y, _, shine, _ = points[near].T
    axes.scatter(x, y, s=1.5, c=np.minimum(shine, 255), cmap="turbo", vmin=0, vmax=40, linewidths=0)
    hint = intensity_hint("LIDAR_TOP", LidarSweep(1, points), TRAINED)
    axes.set(aspect="equal", title=f"{title}: {hint.id if hint else 'no hint'}", xticks=[], yticks=[])


def intensities(sweep: LidarSweep) -> None:
    """Draw the intensity of a sweep: right, photon counts, the field of the rings."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), constrained_layout=True)
    shine, far = sweep.points[:, 3], np.linalg.norm(sweep.points[:, :3], axis=1)
    above(axes[0], sweep, shine, "reflectivity")
    above(axes[1], sweep, shine * 3000 / np.maximum(far, 1.0) ** 2, "photon counts")
    above(axes[2], sweep, sweep.points[:, 4], "ring instead of intensity")
    save_palette_png(figure, IMAGES / "sensors_intensity.png", 70)


def cameras(picture: UInt8Array) -> None:
    """Draw a picture as it is, as a mosaic that was read as grey, with red and blue swapped, and by a fisheye lens."""
    mosaic = picture[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = picture[::2, ::2, 0], picture[1::2, 1::2, 2]
    height, width = mosaic.shape
    k = np.array([[0.36 * width, 0, width / 2], [0, 0.36 * width, height / 2], [0, 0, 1]])
    seen = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(1, -1, 2).astype(np.float64)
    rays = cv2.fisheye.undistortPoints(seen, k, np.zeros(4)).reshape(height, width, 2)
    maps = (rays * 0.36 * width + [width / 2, height / 2]).astype(np.float32)
    bent = cv2.remap(picture, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
    shown = {
        "right": picture,
        "bayer_rggb8 read as mono8": cv2.cvtColor(mosaic, cv2.COLOR_GRAY2RGB),
        "bgr8 said to be rgb8": picture[..., ::-1],
        "fisheye, not undistorted": bent,
    }
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.6), constrained_layout=True)
    for place, (title, pixels) in zip(axes.flat, shown.items(), strict=True):
        place.imshow(pixels, interpolation="nearest")
        place.set(title=title, xticks=[], yticks=[])
    save_palette_png(figure, IMAGES / "sensors_cameras.png", 46)


def page() -> None:
    """Draw the pictures of the page."""
    drive = Drive(3, 0.3, DriveSpec(camera_hz=10.0, image_width_px=352))
    measured = dict(drive.measurements())
    sweep, picture, mounting = measured["LIDAR_TOP"], measured["CAM_FRONT"], drive.rig["LIDAR_TOP"].base_SE3_sensor
    if not isinstance(sweep, LidarSweep) or not isinstance(picture, CameraImage):
        raise TypeError("the drive has no LiDAR or camera")
    intensities(sweep)
    cameras(decoded(picture, 352))
    swapped = SE3(mounting.rotation @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]]), mounting.translation)
    figure, axes = plt.subplots(1, 3, figsize=(15, 3.6), constrained_layout=True)
    side(axes[0], sweep, mounting, "right")
    side(axes[1], sweep, SE3(mounting.rotation, np.zeros(3)), "no mounting")
    side(axes[2], sweep, swapped, "rolled by 90°")
    save_palette_png(figure, IMAGES / "sensors_place.png", 80)


def folder(path: Path) -> None:
    """Draw each sweep: from the side and from above, coloured by intensity."""
    (path / "pictures").mkdir(exist_ok=True)
    for file in sweep_files(path):
        sweep = read_sweep(file, 0)
        figure, axes = plt.subplots(1, 2, figsize=(13, 5), constrained_layout=True)
        side(axes[0], sweep, SE3.identity(), file.stem)
        shown = axes[1].scatter(*sweep.points[:, :2].T, s=0.4, c=sweep.points[:, 3], cmap="viridis", linewidths=0)
        axes[1].set(aspect="equal", xlim=(-51.2, 51.2), ylim=(-51.2, 51.2), title="from above, by intensity")
        figure.colorbar(shown)
        figure.savefig(path / "pictures" / f"{file.stem}.png", dpi=80)
        plt.close(figure)


if __name__ == "__main__":
    folder(Path(sys.argv[1])) if len(sys.argv) > 1 else page()
