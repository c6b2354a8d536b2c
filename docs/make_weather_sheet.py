# SPDX-License-Identifier: Apache-2.0
"""Draw every weather and corruption on one simulated frame: docs/images/weather.webp.

python docs/make_weather_sheet.py
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, RadarSweep
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import UInt8Array
from peft_dml_tools.drawing.birds_eye import BirdsEye, label
from peft_dml_tools.sim.corruptions import CORRUPTIONS, corrupt
from peft_dml_tools.sim.drive import Drive, DriveSpec, render_event
from peft_dml_tools.sim.weather import Weather, apply_to_snapshot
from peft_dml_tools.sim.weather.images import decode

OUT = Path(__file__).resolve().parent / "images" / "weather.webp"
TILE_PX = 232
RANGE_M = 36.0
COLUMNS = 6
MOST_BYTES = 160_000
SEVERITY = 3
WEATHERS = ("clear", "fog=200", "fog=50", "rain=25", "rain=50", "snow=5")


def frame_at(drive: Drive, stamp_ns: int) -> Snapshot:
    """Return LiDAR, radars and the front camera nearest to a time."""
    wanted = ("LIDAR_TOP", "CAM_FRONT", *(s.name for s in drive.rig.of("radar")))
    times = {n: [e for e in drive.events if e.sensor == n] for n in wanted}
    nearest = [min(events, key=lambda e: abs(e.stamp_ns - stamp_ns)) for events in times.values()]
    made = {event.sensor: render_event(drive, event)[0] for event in nearest}
    return Snapshot(
        made["LIDAR_TOP"].stamp_ns,
        "LIDAR_TOP",
        lidar={n: (m,) for n, m in made.items() if isinstance(m, LidarSweep)},
        radars={n: (m,) for n, m in made.items() if isinstance(m, RadarSweep)},
        cameras={n: m for n, m in made.items() if isinstance(m, CameraImage)},
    )


def tile(snapshot: Snapshot, rig: Rig, boxes: Boxes3D, title: str) -> UInt8Array:
    """Return the front camera above, bird's eye view below; radar (green) only where it is touched."""
    view = BirdsEye(TILE_PX, RANGE_M)
    for name, sweeps in snapshot.lidar.items():
        view.lidar(rig[name].base_SE3_sensor.transform(sweeps[0].points[:, :3]))
    for name, cycles in snapshot.radars.items() if title in WEATHERS or title.startswith("radar") else ():
        p, mounting = cycles[0].points, rig[name].base_SE3_sensor
        places = mounting.transform(np.stack([p["x"], p["y"], 0 * p["x"]], axis=1))
        speeds = mounting.rotate(np.stack([p["vx_comp"], p["vy_comp"], 0 * p["x"]], axis=1))
        near = np.abs(places[:, :2]).max(axis=1) < RANGE_M
        view.radar(np.concatenate([places[:, :2], speeds[:, :2]], axis=1)[near])
    view.vehicle()
    view.truth(boxes)
    pixels = decode(snapshot.cameras["CAM_FRONT"])
    height = round(pixels.shape[0] * TILE_PX / pixels.shape[1])
    picture = cv2.resize(pixels, (TILE_PX, height), interpolation=cv2.INTER_AREA)
    label(picture, title, corner=(6, 18), scale=0.5)
    whole = np.vstack([picture, view.pixels])
    whole[:, -2:], whole[-2:] = 0, 0
    return whole


def effects(drive: Drive) -> list[tuple[str, Snapshot]]:
    """Name and frame of everything that is shown."""
    now_ns = drive.keyframes_ns[1]
    now, past = frame_at(drive, now_ns), frame_at(drive, now_ns - 500_000_000)
    boxes = drive.truth_at(now.stamp_ns)
    shown = [(text, apply_to_snapshot(now, drive.rig, Weather.parse(text))) for text in WEATHERS]
    for name in CORRUPTIONS:
        # Some strike by chance: the first seed that does is shown.
        frames = (corrupt(now, name, SEVERITY, drive.rig, seed=s, previous=past, boxes=boxes) for s in range(50))
        shown.append((f"{name} {SEVERITY}", next(f for f in frames if _changed(f, now))))
    return shown


def _changed(frame: Snapshot, clear: Snapshot) -> bool:
    content = [
        [s.points.tobytes() for sweeps in (*f.lidar.values(), *f.radars.values()) for s in sweeps]
        + [image.jpeg for image in f.cameras.values()]
        for f in (frame, clear)
    ]
    return content[0] != content[1]


def main(seed: int) -> None:
    """Write the sheet, as good as fits."""
    drive = Drive(seed, 2.0, DriveSpec(image_width_px=640))
    boxes = drive.truth_at(drive.keyframes_ns[1])
    tiles = [tile(snapshot, drive.rig, boxes, title) for title, snapshot in effects(drive)]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    sheet = np.vstack([np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)])
    for quality in range(85, 30, -5):
        data = cv2.imencode(".webp", sheet[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1]
        if len(data) <= MOST_BYTES:
            break
    OUT.write_bytes(bytes(data))
    print(f"{OUT}: {sheet.shape[1]} x {sheet.shape[0]}, quality {quality}, {len(data) / 1000:.0f} kB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
