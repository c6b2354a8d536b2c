# SPDX-License-Identifier: Apache-2.0
"""Draws what the method does in a bundle: attention, embeddings and headings, into docs/images.

python docs/make_method_pictures.py --data FOLDER --bundle models/demo [--before PREVIOUS] [--split sim_test]

Embeddings: the base alone against the adapted network. Headings: the previous bundle against this one.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure

from peft_dml_evidence.attention_view import neighbour_weights, network_of
from peft_dml_evidence.retrieval import embeddings, projection
from peft_dml_evidence.target_measures import CAR
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.engines import load_engines
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.dataset import FrameReader, scenes_of
from peft_dml_train.data.frame import Frame
from peft_dml_train.evaluation.calibration import assigned
from peft_dml_train.evaluation.palette_png import save_palette_png
from peft_dml_train.evaluation.sensors import ALL
from peft_dml_train.evaluation.subsets import BundleRunner
from peft_dml_train.fusion.attention import COARSE, NEIGHBOURS
from peft_dml_train.network import PeftDmlNetwork

IMAGES = Path(__file__).with_name("images")
REACH_M = 40.0
SHOWN = 40
COLOURS = dict(zip(DETECTING, ("tab:blue", "tab:orange", "tab:green"), strict=True))


def draw_attention(network: PeftDmlNetwork, frame: Frame) -> Figure:
    """Draw which of the camera's cells each object's cell looks at, and the cameras' weight against the LiDAR's."""
    weights, gates = neighbour_weights(network, frame)
    spec, boxes = network.spec, frame.boxes
    half, cell_m = spec.grid.half_range_m, spec.grid.cell_m * COARSE
    near = np.flatnonzero(np.abs(boxes.centers_m[:, :2]).max(axis=1) < REACH_M)
    column, row = ((boxes.centers_m[near, :2].T + half) / cell_m).astype(int)
    at = weights[:, row, column]
    offsets = np.array([(c - 1, r - 1) for r, c in NEIGHBOURS]) * cell_m
    shift = (at[..., None] * offsets[:, None]).sum(axis=0)
    figure = Figure(figsize=(13, 6), layout="constrained")
    grid = figure.add_gridspec(3, 3)
    axes = figure.add_subplot(grid[:, :2])
    share = gates[MODALITIES.index("camera")]
    shown = axes.imshow(share, extent=(-half, half, -half, half), origin="lower", cmap="cividis", vmin=0)
    figure.colorbar(shown, ax=axes, label="gate weight of the cameras")
    points = frame.pillars["lidar"].points[:, 0, :2]
    axes.plot(*points.T, ",", color="white", alpha=0.5)
    start = boxes.centers_m[near, :2]
    axes.quiver(*start.T, *shift.T, color="red", angles="xy", scale_units="xy", scale=0.25, width=0.003)
    axes.plot(*start.T, "o", ms=4, mfc="none", color="red")
    axes.set(xlim=(-REACH_M, REACH_M), ylim=(-REACH_M, REACH_M), xlabel="x in m", ylabel="y in m")
    axes.set_title("where objects look in the camera's map (arrows four times as long)")
    strongest = np.argsort(-at.max(axis=0))[:3]
    for place, i in enumerate(strongest):
        panel = figure.add_subplot(grid[place, 2])
        panel.imshow(at[:, i].reshape(3, 3), origin="lower", cmap="magma", vmin=0, vmax=max(float(at.max()), 2 / 9))
        for n, (r, c) in enumerate(NEIGHBOURS):
            panel.text(c, r, f"{at[n, i]:.2f}", ha="center", va="center", color="tab:cyan")
        panel.set(xticks=[], yticks=[], title=f"{spec.classes[boxes.labels[near[i]]]} at {np.hypot(*start[i]):.0f} m")
    return figure


def draw_embeddings(before: list[list[Any]], after: list[list[Any]]) -> Figure:
    """Draw the two main components of objects' latents, by sensor, without and with the adapter."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    for axes, points, title in zip(figure.subplots(1, 2), (before, after), ("base alone", "adapted"), strict=True):
        for m in DETECTING:
            rows = np.array([row[2:] for row in points if row[0] == m])
            axes.plot(*rows.T, ".", color=COLOURS[m], label=m, alpha=0.6)
        axes.set_title(f"objects by sensor, {title}")
        axes.legend()
    return figure


def yaws(runner: BundleRunner, tokens: list[str]) -> np.ndarray:
    """Return (n, 2) true and found yaws of cars."""
    rows = []
    for token in tokens:
        truth = runner.reader.truth(token)
        found = runner.detect(token, runner.reader.snapshot(token, runner.bundle.spec), ALL).boxes
        for i, j in enumerate(assigned(found, truth)):
            if j >= 0 and truth.labels[j] == CAR:
                rows.append((truth.yaws_rad[j], found.yaws_rad[i]))
    return np.array(rows).reshape(-1, 2)


def draw_headings(found: dict[str, np.ndarray]) -> Figure:
    """Draw found against true yaws: on the diagonal they are right, half a turn off it front and rear are exchanged."""
    figure = Figure(figsize=(5.5 * len(found), 5), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(found)))
    for axes, (name, rows) in zip(panels, found.items(), strict=True):
        axes.plot(*np.rad2deg(rows).T, ".", ms=3, alpha=0.5)
        for shift, style in ((0, "-"), (180, ":"), (-180, ":")):
            axes.plot([-180, 180], [-180 + shift, 180 + shift], style, color="gray", lw=0.8)
        axes.set(xlim=(-180, 180), ylim=(-180, 180), xlabel="true yaw in °", ylabel="found yaw in °")
        axes.set_title(f"{name}: {len(rows)} cars")
    return figure


def main(
    data: Annotated[Path, typer.Option(help="nuScenes folder of the target")],
    bundle: Annotated[Path, typer.Option()] = Path("models/demo"),
    before: Annotated[Path | None, typer.Option(help="Previous bundle, for its headings")] = None,
    split: Annotated[str, typer.Option()] = "sim_test",
    frames: Annotated[int, typer.Option(help="Keyframes")] = SHOWN,
    out: Annotated[Path, typer.Option()] = IMAGES,
) -> None:
    """Write method_attention.png, method_embeddings.png and method_headings.png."""
    reader = NuScenesReader(data)
    tokens = [token for scene in scenes_of(reader, (split,)) for token in reader.samples(scene)]
    tokens = [tokens[i] for i in np.unique(np.linspace(0, len(tokens) - 1, frames).astype(int))]
    made = FrameReader(data, load_bundle(bundle).spec, None, reader)
    read = [made.frame(token) for token in tokens]
    pictured = max(read, key=lambda frame: int((np.abs(frame.boxes.centers_m[:, :2]) < REACH_M).all(axis=1).sum()))
    points = []
    for adapter in ("none", "default"):
        loaded = load_bundle(bundle, adapter=adapter)
        points.append(projection(*embeddings(load_engines(loaded, threads=1), read, loaded.spec)))
    found = {
        name: yaws(BundleRunner(folder, reader, threads=1), tokens)
        for name, folder in (("before", before), ("after", bundle))
        if folder is not None
    }
    figures = {
        "attention": draw_attention(network_of(bundle), pictured),
        "embeddings": draw_embeddings(*points),
        "headings": draw_headings(found),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        save_palette_png(figure, out / f"method_{name}.png", 90)
        typer.echo(out / f"method_{name}.png")


if __name__ == "__main__":
    typer.run(main)
