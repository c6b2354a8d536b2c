# SPDX-License-Identifier: Apache-2.0
"""Measures what pictures without content cost, and puts the table into docs/realism.md.

python docs/make_blind_cameras.py DATA [SPLIT] [SCENES]
"""

import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_scores import open_devkit, result_rows, score
from peft_dml_tools.datasets.source import NuScenesSource
from peft_dml_tools.markdown_pages import fill_page, markdown_table
from peft_dml_train.evaluation.subsets import BundleRunner

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- blind cameras: made by docs/make_blind_cameras.py -->", "<!-- end of blind cameras -->"
BUNDLES, ONE, WITHOUT, ONE_LESS = ("demo", "base"), "CAM_FRONT", "no cameras", "five cameras"
#: Cameras of the data have 2 Hz: so long before a keyframe lie its own pictures, and none of the one before
JUST_BEFORE_NS: Final = 200_000_000


def blind(image: CameraImage, deviation: float = 0.0) -> CameraImage:
    """Return a picture that is grey everywhere, with Gaussian noise of some levels."""
    noise = np.random.default_rng(image.stamp_ns % 2**32).normal(128, deviation, (198, 352, 3))
    return replace(image, jpeg=None, pixels=noise.astype(np.uint8))


def intake(source: NuScenesSource, cameras: Collection[str] = (), after_ns: int = 0) -> dict[int, Snapshot]:
    """Return the synchroniser's frames by stamp; some cameras are grey from a time on."""
    sync, frames = Synchroniser(PerceptionParams(), tuple(source.rig.sensors)), {}
    for name, measurement in source.measurements():
        grey = isinstance(measurement, CameraImage) and name in cameras and measurement.stamp_ns >= after_ns
        seen = blind(measurement) if grey else measurement  # type: ignore[arg-type]
        if snapshot := sync.add(name, seen, measurement.stamp_ns):
            frames[snapshot.stamp_ns] = snapshot
    return frames


def variants(source: NuScenesSource) -> Iterator[tuple[str, str, str, Snapshot]]:
    """Yield token, case, what to compare it with, and frame of every keyframe but a scene's first."""
    six = [sensor.name for sensor in source.rig.of("camera")]
    recorded, all_grey, one_grey = intake(source), intake(source, six), intake(source, [ONE])
    for token in source.tokens[1:]:
        stamp_ns = source.reader.stamp_ns(token)
        frame, seen = recorded[stamp_ns], recorded[stamp_ns].cameras
        grey = {name: blind(image) for name, image in seen.items()}
        yield token, "pictures as recorded", "", frame
        yield token, WITHOUT, "", replace(frame, cameras={})
        yield token, ONE_LESS, "", replace(frame, cameras={n: image for n, image in seen.items() if n != ONE})
        yield token, "six grey, into the detector", WITHOUT, replace(frame, cameras=grey)
        one = dict(seen) | {ONE: grey[ONE]}
        yield token, "one of six grey, into the detector", ONE_LESS, replace(frame, cameras=one)
        noise = {name: blind(image, 10.0) for name, image in seen.items()}
        yield token, "six of noise, into the detector", WITHOUT, replace(frame, cameras=noise)
        yield token, "six grey, through the intake", WITHOUT, all_grey[stamp_ns]
        yield token, "one of six grey, through the intake", ONE_LESS, one_grey[stamp_ns]
        turned = intake(source, six, stamp_ns - JUST_BEFORE_NS)[stamp_ns]
        yield token, "six turn grey at this keyframe, through the intake", WITHOUT, turned


def section(reader: NuScenesReader, scenes: tuple[str, ...]) -> str:
    """Return Markdown of the devkit's mAP by case and bundle."""
    runners = {name: BundleRunner(ROOT / "models" / name, reader, threads=1) for name in BUNDLES}
    found: dict[tuple[str, str], dict[str, dict[str, list[Any]]]] = defaultdict(lambda: {name: {} for name in BUNDLES})
    for scene in scenes:
        for token, case, against, snapshot in variants(NuScenesSource(reader, scene)):
            for name, runner in runners.items():
                boxes = runner.detect(token, snapshot, MODALITIES).boxes
                found[case, against][name][token] = result_rows(token, boxes, reader.global_SE3_base(token))
    nusc, use = open_devkit(reader.root, reader.version), {f"use_{m}": True for m in DETECTING}
    use |= {"use_map": False, "use_external": False}
    maps: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as out:
        for (case, _), by_bundle in found.items():
            maps[case] = {
                n: score(nusc, rows, Path(out, n + case), use, ())["mean_ap"] for n, rows in by_bundle.items()
            }
    rows = [
        (case, *(text for n in BUNDLES for text in (f"{maps[case][n]:.3f}", _change(maps, case, against, n))), against)
        for case, against in found
    ]
    return markdown_table(("", *(t for n in BUNDLES for t in (f"{n}: mAP", "change")), "against"), rows)


def _change(maps: dict[str, dict[str, float]], case: str, against: str, bundle: str) -> str:
    return f"{100 * (maps[case][bundle] / maps[against][bundle] - 1):+.1f} %" if against else "–"


def main() -> None:
    """Measure and update the page."""
    data, split, count = [*sys.argv[1:], *("sim_test", "12")[max(len(sys.argv) - 2, 0) :]]
    reader = NuScenesReader(Path(data))
    fill_page(ROOT / "docs" / "realism.md", BEGIN, section(reader, reader.splits[split][: int(count)]), END)


if __name__ == "__main__":
    main()
