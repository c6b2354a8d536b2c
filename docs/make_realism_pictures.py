# SPDX-License-Identifier: Apache-2.0
"""Draw simulated frames next to a real nuScenes keyframe: docs/images/realism_*.

peft-dml bench data --keep && python docs/make_realism_pictures.py bench_out/realism KEYFRAME_FOLDER

The real folder may hold a single keyframe. No camera image of it is read.
"""

import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASS_COLOURS, CLASSES
from peft_dml_ros.core.measurements import LidarSweep, RadarSweep
from peft_dml_ros.core.rig import Rig
from peft_dml_tools.bench import published
from peft_dml_tools.bench.data import BenchmarkPlan
from peft_dml_tools.bench.statistics import EGO_RANGE_M, RANGE_BINS_M, FolderStatistics, measure_folder
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.sim.drive import Drive, DriveSpec, render_event
from peft_dml_tools.sim.weather.images import decode

IMAGES = Path(__file__).resolve().parent / "images"
MOST_BYTES = 400_000
QUALITY = 65
CREDIT = "Real data: nuScenes, © Motional, CC BY-NC-SA 4.0"
DARK, PALE, REAL, SIMULATED = "#0a0f15", "#dfe7ef", "#ff9e3d", "#3d9bff"
COLUMNS = 1085
BODY_M = (-1.2, 4.0, 1.2)
CAMERA_PX = 480
POINT_EDGES = np.array([0.3, 0.55, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5, 64.5, 128.5, 256.5, 512.5, 1024.5, 4096.5])
SHOWN = ("car", "pedestrian", "truck", "motorcycle")


@dataclass(frozen=True)
class Shot:
    """One keyframe."""

    title: str
    rig: Rig
    lidar: LidarSweep
    radar: RadarSweep
    boxes: Boxes3D


def shot(reader: NuScenesReader, token: str, title: str) -> Shot:
    """Return LiDAR, front radar and the boxes that have a point."""
    records = reader.keyframes(token)
    lidar, radar = reader.load(records["LIDAR_TOP"]), reader.load(records["RADAR_FRONT"])
    if not isinstance(lidar, LidarSweep) or not isinstance(radar, RadarSweep):
        raise TypeError(title)
    return Shot(title, reader.rig(token), lidar, radar, reader.truth(token))


def alike(reader: NuScenesReader, statistics: FolderStatistics, real: FolderStatistics, real_boxes: int) -> str:
    """Return the keyframe that shows most nearly what the real one shows: as many boxes, and things as far away."""

    def shares(ranges_m: np.ndarray) -> np.ndarray:
        return np.histogram(ranges_m[ranges_m > EGO_RANGE_M], np.arange(EGO_RANGE_M, 80, 2.5))[0] / len(ranges_m)

    def unlike(number: int) -> float:
        boxes = max(len(reader.truth(tokens[number])), 1)
        apart = np.abs(shares(statistics.lidar.ranges_m[number]) - shares(real.lidar.ranges_m[0])).sum()
        return float(apart + abs(np.log(boxes / real_boxes)))

    tokens = reader.samples()
    return tokens[min(range(len(tokens)), key=unlike)]


# ---------------------------------------------------------------- pictures
def figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Return a dark figure with the credit line."""
    made = Figure(figsize=size, dpi=100, facecolor=DARK, layout="constrained")
    axes = made.subplots(rows, columns, squeeze=False)
    for ax in axes.ravel():
        ax.set_facecolor(DARK)
        ax.tick_params(colors=PALE, labelsize=8)
        for spine in ax.spines.values():
            spine.set_color("#39424d")
        ax.title.set_color(PALE)
        ax.xaxis.label.set_color(PALE)
        ax.yaxis.label.set_color(PALE)
    made.supxlabel(CREDIT, color=PALE, fontsize=8, x=0.99, ha="right")
    return made, list(axes.ravel())


def outline(ax: Axes, boxes: Boxes3D) -> None:
    """Draw footprints, coloured by class; the driving direction is up."""
    corners = boxes.corners_m()[:, [0, 1, 2, 3, 0], :2]
    colours = [np.array(CLASS_COLOURS[CLASSES[label]]) / 255 for label in boxes.labels]
    ax.add_collection(LineCollection([np.stack([-c[:, 1], c[:, 0]], axis=1) for c in corners], colors=colours, lw=0.9))


def from_above(shots: list[Shot]) -> Figure:
    """Return points coloured by intensity, and boxes."""
    made, axes = figure(1, 2, (13, 6.5))
    drawn = None
    for ax, one in zip(axes, shots, strict=True):
        points = one.rig["LIDAR_TOP"].base_SE3_sensor.transform(one.lidar.points[:, :3].astype(np.float64))
        order = np.argsort(points[:, 2])
        x, y, level = -points[order, 1], points[order, 0], one.lidar.points[order, 3]
        scale = mpl.colors.LogNorm(1, 120)
        drawn = ax.scatter(x, y, c=np.maximum(level, 1), s=1.6, lw=0, cmap="viridis", norm=scale)
        outline(ax, one.boxes)
        ax.set(xlim=(-40, 40), ylim=(-40, 40), aspect="equal", title=one.title, xlabel="m")
    bar = made.colorbar(drawn, ax=axes, shrink=0.6, pad=0.01)
    bar.set_label("LiDAR intensity", color=PALE)
    bar.set_ticks((1, 3, 10, 30, 100), labels=["1", "3", "10", "30", "100"])
    bar.minorticks_off()
    bar.ax.tick_params(colors=PALE, which="both")
    return made


def range_images(shots: list[Shot]) -> Figure:
    """Return ranges and intensities by ring and azimuth; returns of the vehicle itself are left out."""
    made, axes = figure(4, 1, (13, 8))
    for kind, (name, norm, colours) in enumerate(
        (("range in m", mpl.colors.LogNorm(3, 80), "turbo_r"), ("intensity", mpl.colors.LogNorm(1, 120), "viridis"))
    ):
        for number, one in enumerate(shots):
            points = one.lidar.points.astype(np.float64)
            ranges = np.linalg.norm(points[:, :3], axis=1)
            mounting = one.rig["LIDAR_TOP"].base_SE3_sensor
            ahead, at = mounting.rotate(points[:, :3]), mounting.transform(points[:, :3])
            column = ((np.pi - np.arctan2(ahead[:, 1], ahead[:, 0])) / (2 * np.pi) * COLUMNS).astype(int) % COLUMNS
            image = np.full((32, COLUMNS), np.nan)
            body = (at[:, 0] > BODY_M[0]) & (at[:, 0] < BODY_M[1]) & (np.abs(at[:, 1]) < BODY_M[2])
            outer = ~body & (ranges > 1.0)
            image[31 - points[outer, 4].astype(int), column[outer]] = (ranges if kind == 0 else points[:, 3])[outer]
            ax = axes[2 * kind + number]
            edges = (180, -180, 0, 32)
            drawn = ax.imshow(np.maximum(image, 1), cmap=colours, norm=norm, aspect="auto", extent=edges)
            ax.set(title=f"{one.title}: {name}", yticks=[], xlabel="azimuth in degrees, left is +" if number else "")
        bar = made.colorbar(drawn, ax=axes[2 * kind : 2 * kind + 2], pad=0.01)
        bar.ax.tick_params(colors=PALE, which="both")
        ticks = (3, 5, 10, 20, 40, 80) if kind == 0 else (1, 3, 10, 30, 100)
        bar.set_ticks(ticks, labels=[str(tick) for tick in ticks])
        bar.minorticks_off()
    return made


def radar_pictures(shots: list[Shot]) -> Figure:
    """Return the front radar from above, coloured by cross-section, with compensated velocities."""
    made, axes = figure(1, 2, (13, 5.8))
    drawn = None
    for ax, one in zip(axes, shots, strict=True):
        mounting, p = one.rig["RADAR_FRONT"].base_SE3_sensor, one.radar.points
        at = mounting.transform(np.stack([p["x"], p["y"], p["z"]], axis=1).astype(np.float64))
        speed = mounting.rotate(np.stack([p["vx_comp"], p["vy_comp"], 0 * p["x"]], axis=1).astype(np.float64))
        scale = mpl.colors.Normalize(-5, 30)
        drawn = ax.scatter(-at[:, 1], at[:, 0], c=p["rcs"], s=26, cmap="plasma", norm=scale, zorder=3)
        where = (-at[:, 1], at[:, 0], -speed[:, 1], speed[:, 0])
        ax.quiver(*where, angles="xy", scale_units="xy", scale=0.5, width=0.002, color=PALE)
        outline(ax, one.boxes)
        ax.set(xlim=(-60, 60), ylim=(0, 105), aspect="equal", title=f"{one.title}: {len(p)} points", xlabel="m")
    bar = made.colorbar(drawn, ax=axes, shrink=0.7, pad=0.01)
    bar.set_label("RCS in dBsm", color=PALE)
    bar.ax.tick_params(colors=PALE)
    return made


def histograms(real: FolderStatistics, simulated: FolderStatistics) -> Figure:
    """Return shares of both, overlaid; and the medians of all real scenes by range."""
    made, axes = figure(2, 3, (13, 7))
    panels = (
        ("LiDAR range, m", np.linspace(0, 80, 41), lambda f: np.concatenate(f.lidar.ranges_m)),
        ("LiDAR intensity", np.linspace(0, 100, 51), lambda f: np.concatenate(f.lidar.levels)),
        ("LiDAR points an object (left: none)", POINT_EDGES, lambda f: np.maximum(f.objects.lidar_points, 0.4)),
        ("front radar range, m", np.linspace(0, 150, 26), lambda f: np.concatenate(f.radar.ranges_m)),
        ("front radar RCS, dBsm", np.linspace(-10, 40, 26), lambda f: np.concatenate(f.radar.levels)),
    )
    for ax, (name, edges, of) in zip(axes, panels, strict=False):
        for statistics, colour, label in ((real, REAL, "real keyframe"), (simulated, SIMULATED, "simulated")):
            values = of(statistics)
            ax.hist(
                values,
                edges,
                weights=np.full(len(values), 100 / len(values)),
                color=colour,
                alpha=0.5,
                label=label,
                histtype="stepfilled",
                edgecolor=colour,
            )
        ax.set(title=name, ylabel="% of all")
    axes[0].legend(facecolor=DARK, labelcolor=PALE, edgecolor="#39424d")
    axes[2].set_xscale("log")
    medians(axes[5], simulated)
    return made


def medians(ax: Axes, simulated: FolderStatistics) -> None:
    """Draw LiDAR points by range: dots of the two real scenes, lines of the simulator."""
    objects = simulated.objects
    for name in SHOWN:
        colour = np.array(CLASS_COLOURS[name]) / 255
        mine = objects.labels == CLASSES.index(name)
        bins = [mine & (objects.distances_m >= low) & (objects.distances_m < high) for low, high in RANGE_BINS_M]
        middle = [np.mean(pair) for pair in RANGE_BINS_M]
        ax.plot(middle, [np.median(objects.lidar_points[b]) for b in bins], color=colour, label=name)
        ax.plot(middle, [pair[0] for pair in published.CLASSES[name].lidar_points if pair], "o", color=colour)
    ax.set(yscale="log", title="median LiDAR points by range; dots: two real scenes", xlabel="m")
    ax.title.set_fontsize(9)
    ax.legend(facecolor=DARK, labelcolor=PALE, edgecolor="#39424d", fontsize=8)


def cameras(reader: NuScenesReader, token: str) -> np.ndarray:
    """Return the six pictures of a simulated keyframe, rendered again: the folder has none."""
    scene, plan = reader.scene_of(token), BenchmarkPlan()
    seed = plan.realism_seed * 100_000 + reader.scenes.index(scene)
    drive = Drive(seed, plan.realism_s, DriveSpec(image_width_px=2 * CAMERA_PX, lidar_hz=plan.lidar_hz))
    rows = []
    for names in (("FRONT_LEFT", "FRONT", "FRONT_RIGHT"), ("BACK_LEFT", "BACK", "BACK_RIGHT")):
        row = []
        for name in names:
            events = (e for e in drive.events if e.sensor == f"CAM_{name}")
            nearest = min(events, key=lambda e: abs(e.stamp_ns - reader.stamp_ns(token)))
            pixels = decode(render_event(drive, nearest)[0])
            small = cv2.resize(pixels, (CAMERA_PX, CAMERA_PX * 9 // 16), interpolation=cv2.INTER_AREA)
            cv2.putText(small, name, (8, 18), cv2.FONT_HERSHEY_DUPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
            row.append(small)
        rows.append(np.hstack(row))
    return np.vstack(rows)


# ---------------------------------------------------------------- files
def save(made: Figure, name: str) -> None:
    """Save as WebP, a third of a PNG's size."""
    from PIL import Image  # noqa: PLC0415  comes with matplotlib

    path, drawn = IMAGES / f"realism_{name}.webp", BytesIO()
    made.savefig(drawn, facecolor=DARK)
    whole = Image.open(drawn).convert("RGB")
    whole.save(path, quality=QUALITY, method=6)
    print(f"{path.name}: {whole.width} x {whole.height}, {path.stat().st_size / 1000:.0f} kB")


def save_webp(pixels: np.ndarray, name: str) -> None:
    """Save as WebP in the best quality that fits."""
    for quality in range(80, 30, -5):
        data = cv2.imencode(".webp", pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
        if len(data) <= MOST_BYTES:
            break
    (IMAGES / f"realism_{name}.webp").write_bytes(bytes(data))
    print(f"realism_{name}.webp: {pixels.shape[1]} x {pixels.shape[0]}, quality {quality}, {len(data) / 1000:.0f} kB")


def main(simulated_root: Path, real_root: Path) -> None:
    """Draw everything."""
    simulated, real = NuScenesReader(simulated_root), NuScenesReader(real_root, allow_missing=True)
    of_real, of_simulated = measure_folder(real), measure_folder(simulated)
    first = real.samples()[0]
    token = alike(simulated, of_simulated, of_real, len(real.truth(first)))
    shots = [shot(real, first, "real"), shot(simulated, token, "simulated")]
    save(from_above(shots), "above")
    save(range_images(shots), "range")
    save(radar_pictures(shots), "radar")
    save(histograms(of_real, of_simulated), "histograms")
    save_webp(cameras(simulated, token), "cameras")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
