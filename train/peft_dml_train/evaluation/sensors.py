# SPDX-License-Identifier: Apache-2.0
"""Subsets of sensors by name."""

from peft_dml_ros.core.classes import DETECTING, MODALITIES, Modality
from peft_dml_ros.core.errors import ConfigError, nearest

ALL: tuple[Modality, ...] = MODALITIES
SUBSETS: dict[str, tuple[Modality, ...]] = {
    "all": ALL,
    "no lidar": ("camera", "radar", "imu", "gnss"),
    "no camera": ("lidar", "radar", "imu", "gnss"),
    "no radar": ("lidar", "camera", "imu", "gnss"),
    "no motion": ("lidar", "camera", "radar"),
    "lidar only": ("lidar",),
    "camera only": ("camera",),
    "radar only": ("radar",),
}


def parse_sensors(text: str) -> tuple[Modality, ...]:
    """Return the comma-separated modalities. Raises ConfigError: an unknown one, or none that detects."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if name not in MODALITIES:
            raise ConfigError(f"unknown sensor '{name}'; {nearest(name, MODALITIES)}")
    if not set(names) & set(DETECTING):
        raise ConfigError(f"'{text}' holds none of {', '.join(DETECTING)}, which alone see objects; fix: add one")
    return tuple(m for m in MODALITIES if m in names)
