# SPDX-License-Identifier: Apache-2.0
"""Does the gate react? Its weight of a sensor against the visibility in fog, the sensor's age and its noise."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from peft_dml_ros.core.classes import DETECTING, MODALITIES, Modality
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.sim.corruptions import corrupt
from peft_dml_tools.sim.weather import Weather, apply_to_snapshot
from peft_dml_train.data.dataset import scenes_of
from peft_dml_train.evaluation.palette_png import save_palette_png
from peft_dml_train.evaluation.subsets import BundleRunner

FOG_M = (1000.0, 400.0, 200.0, 100.0, 50.0, 25.0)
AGES_S = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
SEVERITIES = (0, 1, 2, 3)
#: The corruption that stands for each sensor's noise
NOISE: dict[Modality, str] = {"lidar": "pointsreducing", "camera": "dark", "radar": "radar_spurious_points"}

Change = Callable[[Snapshot, Rig], Snapshot]


@dataclass(frozen=True, slots=True)
class GateSweep:
    """One quantity that is varied."""

    name: str  #: Of the quantity
    label: str  #: Of its axis
    values: tuple[float, ...]  #: What it takes
    changes: tuple[Change, ...]  #: For each value, what is done to a frame
    watched: tuple[Modality, ...]  #: The modality whose weight should fall, or all that detect


def _fog(visibility_m: float) -> Change:
    return lambda snapshot, rig: apply_to_snapshot(snapshot, rig, Weather(fog_visibility_m=visibility_m))


def _aged(modality: Modality, age_s: float) -> Change:
    return lambda snapshot, _: replace(snapshot, age_s={**snapshot.age_s, modality: age_s})


def _noisy(modality: Modality, severity: int) -> Change:
    if not severity:
        return lambda snapshot, _: snapshot
    return lambda snapshot, rig: corrupt(snapshot, NOISE[modality], severity, rig)


def sweeps() -> list[GateSweep]:
    """Return fog for all sensors at once; age and noise for each in turn."""
    found = [GateSweep("fog", "visibility in fog (m)", FOG_M, tuple(_fog(v) for v in FOG_M), DETECTING)]
    for m in DETECTING:
        found.append(GateSweep(f"age_{m}", f"age of {m} (s)", AGES_S, tuple(_aged(m, a) for a in AGES_S), (m,)))
        noisy = tuple(_noisy(m, s) for s in SEVERITIES)
        values = tuple(float(s) for s in SEVERITIES)
        found.append(GateSweep(f"noise_{m}", f"{NOISE[m]}, severity", values, noisy, (m,)))
    return found


def measure_gate(bundle: Path, data: Path, splits: tuple[str, ...], most_frames: int) -> dict[str, Any]:
    """Return the mean gate weights along every sweep.

    Returns:
        By sweep: label, values, and weight (value -> modality), its standard error, and the watched modalities.
    """
    reader = NuScenesReader(data)
    runner = BundleRunner(bundle, reader)
    tokens = [token for scene in scenes_of(reader, splits) for token in reader.samples(scene)]
    picked = [tokens[i] for i in np.unique(np.linspace(0, len(tokens) - 1, min(most_frames, len(tokens))).astype(int))]
    plan = sweeps()
    gates = {s.name: np.zeros((len(s.values), len(picked), len(MODALITIES))) for s in plan}
    for column, token in enumerate(picked):
        snapshot, rig = reader.snapshot(token, runner.bundle.spec), reader.rig(token)
        for sweep in plan:
            for row, change in enumerate(sweep.changes):
                gates[sweep.name][row, column] = runner.detect(token, change(snapshot, rig), MODALITIES).gate
    return {
        s.name: {
            "label": s.label,
            "values": list(s.values),
            "watched": list(s.watched),
            "frames": len(picked),
            "weight": {m: gates[s.name][..., i].mean(1).round(6).tolist() for i, m in enumerate(MODALITIES)},
            "standard_error": {
                m: (gates[s.name][..., i].std(1) / len(picked) ** 0.5).round(6).tolist()
                for i, m in enumerate(MODALITIES)
            },
        }
        for s in plan
    }


def plot_gate(measured: dict[str, Any], picture: Path) -> None:
    """Draw one panel per sweep, and write the figures as JSON next to the picture."""
    write_json(picture.with_suffix(".json"), measured)
    figure = Figure(figsize=(13, 6), layout="constrained")
    panels = figure.subplots(2, 6).ravel()
    colours = dict(zip(MODALITIES, ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:gray"), strict=True))
    for axes, entry in zip(panels, measured.values(), strict=False):
        for m in MODALITIES:
            watched = m in entry["watched"]
            axes.errorbar(
                entry["values"],
                entry["weight"][m],
                yerr=entry["standard_error"][m],
                color=colours[m],
                label=m,
                lw=2.2 if watched else 0.9,
                alpha=1.0 if watched else 0.5,
            )
        if entry["label"].startswith("visibility"):
            axes.set_xscale("log")
            axes.invert_xaxis()
        axes.set_xlabel(entry["label"])
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
    for axes in panels[len(measured) :]:
        axes.axis("off")
    panels[-1].legend(*panels[0].get_legend_handles_labels(), loc="center", title="gate weight of")
    save_palette_png(figure, picture, 100)
