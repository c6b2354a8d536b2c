# SPDX-License-Identifier: Apache-2.0
"""Domains: cities and fleets that differ in streets, traffic side, vehicle, LiDAR and weather.

Two presets share nothing of this, so that encoders can be pretrained in one and adapted in the other: `source` is a van
with a 40-beam LiDAR in a right-hand city of straight streets and clear air; `target` is a car of nuScenes' kind in a
left-hand city of winding streets, in drizzle, rain and haze. `mixed` has the streets and the traffic of both, a
nuScenes car and clear air.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import yaml
from pydantic import Field, ValidationError

from peft_dml_ros.core.errors import ConfigError, nearest, one_line
from peft_dml_ros.core.spec import Frozen
from peft_dml_tools.sim.weather import Weather

NUMBERS: Final = {"source": range(2000, 3500), "target": range(3500, 5000)}
#: All are clear of the official scenes; tokens follow from the numbers, so that those of two domains differ
OTHERS: Final = range(5000, 9999)


def scene_numbers(domain: str, count: int) -> Sequence[int]:
    """Return the numbers of a domain's first scenes. Raises ConfigError: the domain has not so many."""
    numbers = NUMBERS.get(domain.split("-", maxsplit=1)[0], OTHERS)
    if count > len(numbers):
        msg = f"--scenes {count}: domain '{domain}' has {len(numbers)} scene numbers; fix: use another --seed for more"
        raise ConfigError(msg)
    return numbers[:count]


class StreetStyle(NamedTuple):
    """What a city's streets are like."""

    bends_per_m: tuple[float, ...]  #: Largest curvatures to choose from
    bend_shares: tuple[float, ...]  #: How often each is chosen
    skews_rad: tuple[float, float]  #: Range of the angle of crossings that are not at a right angle
    lanes: tuple[int, int]  #: Fewest lanes a direction, and one more than the most
    lane_m: tuple[float, float]  #: Range of a lane's width
    across_share: float  #: Share of streets where vehicles also park across the road
    setback_m: tuple[float, float]  #: Range between pavement and buildings


STREETS: Final = {
    "mixed": StreetStyle(
        (0.0, 1 / 400, 1 / 180, 1 / 115), (0.2, 0.25, 0.3, 0.25), (0.1, 0.65), (1, 3), (3.3, 3.6), 0.4, (1, 6)
    ),
    "grid": StreetStyle((0.0, 1 / 600), (0.7, 0.3), (0.0, 0.1), (2, 4), (3.5, 3.8), 0.35, (4, 10)),
    "winding": StreetStyle((1 / 250, 1 / 160, 1 / 115), (0.3, 0.4, 0.3), (0.2, 0.65), (1, 3), (3.1, 3.4), 0.45, (1, 5)),
}


class Domain(Frozen):
    """Where drives take place, and in what."""

    name: str = Field("mixed", min_length=1, description="Name; scenes of one name and seed are the same scenes")
    traffic: Literal["both", "right", "left"] = Field("both", description="Side of the road that traffic keeps to")
    streets: Literal["mixed", "grid", "winding"] = Field("mixed", description="Layout of the streets")
    vehicle: Literal["nuscenes", "van"] = Field("nuscenes", description="Vehicle and mounting of its sensors")
    lidar: Literal["hdl32e", "pandar40p"] = Field("hdl32e", description="LiDAR: number and angles of its beams")
    weather: tuple[str, ...] = Field(("clear",), min_length=1, description="Weathers that scenes draw from")
    relief: float = Field(1.0, ge=0.0, le=2.0, description="Factor on the ground's hills and bumps; 0 is a plane")

    @property
    def right_share(self) -> float:
        """Share of drives with traffic on the right."""
        return {"both": 0.65, "right": 1.0, "left": 0.0}[self.traffic]

    def weather_of(self, seed: int) -> Weather:
        """Return the weather of one drive."""
        return Weather.parse(self.weather[int(np.random.default_rng([seed, 21]).integers(len(self.weather)))])

    @classmethod
    def load(cls, text: str, **changes: str | tuple[str, ...] | None) -> "Domain":
        """Return a preset by its name, or the domain of a YAML file, with some values replaced.

        Raises ConfigError: there is no such preset or file, or a value is refused; fields and choices are named.
        """
        if text in PRESETS:
            values: object = PRESETS[text].model_dump()
        elif Path(text).is_file():
            values = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
        else:
            raise ConfigError(f"no domain '{text}'; {nearest(text, PRESETS)}. Fix: name one of them, or a YAML file")
        if not isinstance(values, dict):
            raise ConfigError(f"{text} is not a mapping; fix: a YAML file with {', '.join(cls.model_fields)}")
        given = {key: value for key, value in changes.items() if value is not None}
        if given and "name" not in given and text in PRESETS:
            words = (value if isinstance(value, str) else "-".join(value) for value in given.values())
            given["name"] = "-".join([text, *words])
        try:
            domain = cls.model_validate(values | given)
        except ValidationError as error:
            msg = f"domain '{text}': {one_line(error)}"
            raise ConfigError(f"{msg}; fix: its fields are {', '.join(cls.model_fields)}") from error
        for weather in domain.weather:
            Weather.parse(weather)
        return domain


MIXED: Final = Domain()
PRESETS: Final = {
    "mixed": MIXED,
    "source": Domain(name="source", traffic="right", streets="grid", vehicle="van", lidar="pandar40p"),
    "target": Domain(
        name="target", traffic="left", streets="winding", weather=("fog=1200", "fog=600", "rain=2", "rain=6")
    ),
}
