# SPDX-License-Identifier: Apache-2.0
"""Puts the tables of sizes and parameters into docs/model.md: `python docs/make_model_tables.py`."""

from pathlib import Path
from typing import Any

from peft_dml_tools.markdown_pages import fill_section, markdown_table
from peft_dml_train.adapters.lora import adapt, parameter_counts
from peft_dml_train.config import CameraConfig, TrainConfig, load_config
from peft_dml_train.loop.stages import MOST_TRAINED, new_network

PAGE = Path(__file__).with_name("model.md")
RECIPES = ("tiny", "demo", "nuscenes")
RANKS = (4, 8, 16)
BEGIN, END = "<!-- tables, by docs/make_model_tables.py -->", "<!-- end of tables -->"


def recipes() -> dict[str, TrainConfig]:
    """Return the shipped recipes by name."""
    folder = PAGE.parents[1] / "train" / "configs"
    return {name: load_config(folder / f"{name}.yaml") for name in RECIPES}


def backbone(camera: CameraConfig) -> str:
    """Return its kind, and a ResNet's blocks and widths."""
    if camera.backbone == "resnet":
        return f"ResNet, {camera.layer}, {'-'.join(map(str, camera.widths))}"
    return f"EfficientNet-Lite0, weights of {camera.weights}"


def size_rows(found: dict[str, TrainConfig]) -> list[list[str]]:
    """Return one row a quantity, one column a recipe."""
    quantities = {
        "common grid": lambda c: f"{c.spec.grid.size} × {c.spec.grid.size} of {c.spec.grid.cell_m:.2g} m",
        "latent dimensions d": lambda c: c.spec.latent_dim,
        "LiDAR": lambda c: f"{c.spec.lidar.sweeps} sweeps, {c.spec.lidar.pillar_grid}² pillars",
        "LiDAR body": lambda c: f"{c.network.lidar.body}, {'-'.join(map(str, c.network.lidar.widths))}",
        "images": lambda c: f"{len(c.spec.camera.cameras)} of {c.spec.camera.width_px} × {c.spec.camera.height_px}",
        "image backbone": lambda c: backbone(c.network.camera),
        "voxel heights, depth bins": lambda c: f"{len(c.spec.camera.voxel_heights_m)}, {c.spec.camera.depth_bins}",
        "radar": lambda c: f"{c.spec.radar.sweeps} cycles, {c.spec.radar.pillars} pillars",
        "candidates K": lambda c: c.spec.candidates,
    }
    return [[name, *(str(show(config)) for config in found.values())] for name, show in quantities.items()]


def part_rows(found: dict[str, TrainConfig]) -> list[list[str]]:
    """Return parameters of each part, without adapters on the encoders."""

    def count(module: Any) -> int:
        return sum(p.numel() for p in module.parameters())

    networks = [new_network(config) for config in found.values()]
    rows = [[f"{m} encoder", *(f"{count(n.encoders[m]):,}" for n in networks)] for m in networks[0].encoders]
    for part in ("adapters", "projections", "classifier", "fusion", "head"):
        name = "bottleneck adapters" if part == "adapters" else part
        rows.append([name, *(f"{count(getattr(n, part)):,}" for n in networks)])
    return rows


def share_rows(found: dict[str, TrainConfig]) -> list[list[str]]:
    """Return the trained share for each rank, with and without projections, fusion and head."""
    rows = []
    for rank in RANKS:
        cells = []
        for config in found.values():
            adapters = config.adapters.model_copy(update={"rank": rank, "alpha": 2 * rank})
            counts = parameter_counts(adapt(new_network(config), adapters).get_base_model())
            text = f"{counts['share']:.1%} / {counts['share_without_projections_fusion_head']:.1%}"
            text += " (refused)" if counts["share"] >= MOST_TRAINED else f" of {counts['total'] / 1e6:.2f} M"
            cells.append(f"**{text}**" if rank == config.adapters.rank else text)
        rows.append([f"LoRA rank {rank}", *cells])
    return rows


def tables() -> str:
    """Return all three."""
    found = recipes()
    share = "Trained in the fine-tuning, with / without projections, fusion and head (the recipe's own rank in bold):"
    parts = {"Sizes:": size_rows(found), "Parameters by part:": part_rows(found), share: share_rows(found)}
    return "\n".join(f"{title}\n\n{markdown_table(('', *found), rows)}\n" for title, rows in parts.items())


def fill(page: str, text: str) -> str:
    """Return the page with its tables replaced."""
    return fill_section(page, BEGIN, f"\n{text}", END)


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), tables()), encoding="utf-8")
