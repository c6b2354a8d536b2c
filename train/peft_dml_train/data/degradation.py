# SPDX-License-Identifier: Apache-2.0
"""Weather and published corruptions on whole frames, with a label of how much each modality still deserves trust."""

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import Float32Array
from peft_dml_tools.sim.corruptions import CORRUPTIONS, corrupt
from peft_dml_tools.sim.weather import Weather, apply_to_snapshot
from peft_dml_train.evaluation.conditions import Condition

LIDAR, CAMERA, RADAR = (MODALITIES.index(m) for m in ("lidar", "camera", "radar"))
CAMERA_SIGHT_M, LIDAR_SIGHT_M = 400.0, 200.0
"""Visibilities from which on a modality counts as undisturbed."""
HALVING_RAIN_MMPH, HALVING_SNOW_MMPH = 50.0, 5.0
"""Rates at which a camera's quality is halved."""
RADAR_RAIN_MMPH = 200.0
SEVERITIES = 3
SINGLE_FRAME = tuple(name for name in CORRUPTIONS if name not in {"temporalmisalignment", "radar_noise"})
"""Those of one frame alone, and one kind at a time."""
WEATHER_SHARE = 0.6


def some_weather(draw: np.random.Generator) -> Weather:
    """Return fog, rain or snow; visibilities and rates are drawn evenly on a logarithmic scale."""

    def between(low: float, high: float) -> float:
        return float(np.exp(draw.uniform(np.log(low), np.log(high))))

    kind = draw.integers(3)
    if kind == 0:
        return Weather(fog_visibility_m=between(15, 300))
    return Weather(rain_mmph=between(5, 100)) if kind == 1 else Weather(snow_mmph=between(0.5, 10))


def in_weather(snapshot: Snapshot, rig: Rig, weather: Weather, seed: int) -> tuple[Snapshot, Float32Array]:
    """Return a frame in weather, and the quality (5,) float32 from 0 to 1 of each modality in it."""
    quality = np.ones(len(MODALITIES), dtype=np.float32)
    # Drops and flakes disturb more than they dim.
    falling = (weather.rain_mmph or 0.0) / HALVING_RAIN_MMPH + (weather.snow_mmph or 0.0) / HALVING_SNOW_MMPH
    quality[CAMERA] = min(1.0, weather.visibility_m / CAMERA_SIGHT_M) / (1 + falling)
    quality[LIDAR] = min(1.0, weather.visibility_m / LIDAR_SIGHT_M) / (1 + falling / 2)
    quality[RADAR] = max(0.0, 1 - (weather.rain_mmph or 0.0) / RADAR_RAIN_MMPH)
    return apply_to_snapshot(snapshot, rig, weather, seed), quality


def degraded(snapshot: Snapshot, rig: Rig, boxes: Boxes3D, seed: int) -> tuple[Snapshot, Float32Array]:
    """Return a frame in weather or under a corruption, drawn from the seed, and its modalities' quality (5,)."""
    draw = np.random.default_rng(seed)
    if draw.random() < WEATHER_SHARE:
        return in_weather(snapshot, rig, some_weather(draw), seed)
    name, severity = str(draw.choice(SINGLE_FRAME)), int(draw.integers(1, SEVERITIES + 1))
    return corrupted(snapshot, rig, boxes, name, severity, seed)


def in_condition(
    condition: Condition, seed: int, snapshot: Snapshot, rig: Rig, boxes: Boxes3D
) -> tuple[Snapshot, Float32Array]:
    """Return a frame in a weather or under a corruption, and its modalities' quality (5,)."""
    if condition.corruption:
        return corrupted(snapshot, rig, boxes, condition.corruption, condition.severity, seed)
    return in_weather(snapshot, rig, condition.weather, seed)


def corrupted(
    snapshot: Snapshot, rig: Rig, boxes: Boxes3D, name: str, severity: int, seed: int
) -> tuple[Snapshot, Float32Array]:
    """Return a frame under a corruption, and its modalities' quality (5,): what was changed lost it by severity."""
    after = corrupt(snapshot, name, severity, rig, seed=seed, boxes=boxes)
    quality = np.ones(len(MODALITIES), dtype=np.float32)
    pairs = ((snapshot.lidar, after.lidar), (snapshot.cameras, after.cameras), (snapshot.radars, after.radars))
    for place, (was, now) in zip((LIDAR, CAMERA, RADAR), pairs, strict=True):
        if now is not was:
            quality[place] = 1 - severity / SEVERITIES
    return after, quality
