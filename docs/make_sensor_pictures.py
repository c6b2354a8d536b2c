# SPDX-License-Identifier: Apache-2.0
"""Draws LiDAR sweeps from the side and from above, right and wrong.

python docs/make_sensor_pictures.py            # docs/images/sensors_place.png, of a simulated sweep
python docs/make_sensor_pictures.py FOLDER     # every sweep in a folder, into FOLDER/pictures
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.sensor_checks import SensorChecks
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.point_files import read_sweep
from peft_dml_tools.datasets.sweep_folder import sweep_files
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_train.evaluation.palette_png import save_palette_png

PAGE_PICTURE = Path(__file__).with_name("images") / "sensors_place.png"


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


def simulated() -> tuple[LidarSweep, SE3]:
    """Return a sweep of the simulator and the mounting of its LiDAR."""
    drive = Drive(3, 0.3, DriveSpec(camera_hz=1.0, image_width_px=96))
    sweep = next(m for _, m in drive.measurements() if isinstance(m, LidarSweep))
    return sweep, drive.rig["LIDAR_TOP"].base_SE3_sensor


def page() -> None:
    """Draw the picture of the page."""
    sweep, mounting = simulated()
    swapped = SE3(mounting.rotation @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]]), mounting.translation)
    figure, axes = plt.subplots(1, 3, figsize=(15, 3.6), constrained_layout=True)
    side(axes[0], sweep, mounting, "right")
    side(axes[1], sweep, SE3(mounting.rotation, np.zeros(3)), "no mounting")
    side(axes[2], sweep, swapped, "rolled by 90°")
    save_palette_png(figure, PAGE_PICTURE, 80)


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
