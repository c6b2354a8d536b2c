# SPDX-License-Identifier: Apache-2.0
"""The model card, written from the manifest's own figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft_dml_ros.core.bundle import Manifest
from peft_dml_ros.core.classes import CLASSES

CARD = "MODEL_CARD.md"
MANY = 20
KNOWN_FAILURES = """\
- Trained and tested on simulated drives only. On real recordings expect far less; the project reports what it reaches
  on a real keyframe as it is.
- One simulated rig. Other mountings work in principle, since calibration is an input, but were never trained on.
- Without LiDAR, heights and distances of far objects are guesses: see the distances in the table by threshold.
- Headings and velocities are hardly learnt in so short a training (mAOE and mAVE above): a box may point backwards or
  sideways, and moving objects may be given as standing.
- Radar alone sees moving and metallic things; pedestrians and cones are mostly missed.
- Classes with few test objects (the table gives the numbers) have figures that say little.
- It is a demonstration, not a safety component."""


def _subset_table(test: dict[str, Any]) -> list[str]:
    lines = [
        "| sensors | mAP | NDS | car AP at 0.5 m | 1 m | 2 m | 4 m | mATE | mASE | mAOE | mAVE | mAAE |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, m in test.items():
        car = " | ".join(f"{m['ap']['car'][d]:.3f}" for d in ("0.5", "1.0", "2.0", "4.0"))
        errors = " | ".join(
            f"{m['tp_errors'][e]:.2f}" for e in ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
        )
        lines.append(f"| {name} | {m['mean_ap']:.3f} | {m['nd_score']:.3f} | {car} | {errors} |")
    return lines


def _class_table(test: dict[str, Any]) -> list[str]:
    names = [n for n in ("all", "no lidar", "no camera", "camera only", "radar only") if n in test]
    lines = ["| class | test objects | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    objects = next(iter(test.values()))["objects"]
    for c in CLASSES:
        values = " | ".join(f"{test[n]['ap'][c]['2.0']:.3f}" for n in names)
        few = "" if objects[c] >= MANY else " (few)"
        lines.append(f"| {c} | {objects[c]}{few} | {values} |")
    return lines


def _calibration(calibration: dict[str, Any]) -> list[str]:
    measured = calibration.get("measured", {})
    if not measured:
        return ["Not calibrated: every temperature is 1."]
    lines = ["| sensors | temperature | boxes | ECE before | ECE after |", "|---|---|---|---|---|"]
    for name, m in measured.items():
        key = "".join("1" if part in name.split("+") else "0" for part in ("lidar", "camera", "radar")) + "11"
        values = (m["boxes"], m["ece_before"], m["ece_after"])
        lines.append(f"| {name} | {calibration['temperature'][key]:.2f} | " + " | ".join(str(v) for v in values) + " |")
    return lines


def write_card(folder: Path, manifest: Manifest, calibration: dict[str, Any]) -> None:
    """Write MODEL_CARD.md into a bundle."""
    p, origin, test = manifest.parameters, manifest.provenance, manifest.metrics.get("test", {})
    stages = "; ".join(f"{n}: {s['steps']} steps, {s['minutes']} min" for n, s in origin.get("stages", {}).items())
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        manifest.description,
        "",
        f"Licence: {manifest.licence}. Trained on simulated data; seed {origin.get('seed')}.",
        "",
        "## How it was made",
        "",
        f"One command makes it again: `{origin.get('command')}` (simulate, pretrain, finetune, export, evaluate).",
        f"Stages: {stages or 'none recorded'}. Scenes: {origin.get('splits')}.",
        f"Data: {origin.get('data')}.",
        *([origin["note"]] if "note" in origin else []),
        "",
        "The encoders are pretrained from scratch on the training scenes, then frozen; the fine-tuning trains LoRA",
        f"(rank {manifest.adapter.get('rank')}) on their convolutions and linear layers, bottleneck adapters,",
        "projections, fusion and head. The adapter is merged into the graphs and kept in `adapter/` in peft's format.",
        "",
        f"- Parameters, adapters included: {p['total']:,}",
        f"- Trained in the fine-tuning: {p['trained']:,} ({p['share']:.1%})",
        (
            f"- of these low-rank and bottleneck: {p['trained_low_rank_and_bottleneck']:,}"
            f" ({p['share_without_projections_fusion_head']:.1%})"
        ),
        "",
        "## What it reaches",
        "",
    ]
    if test:
        lines += ["nuscenes-devkit's own detection evaluation on test scenes that no training has seen.", ""]
        lines += [*_subset_table(test), "", "AP at 2 m by class:", "", *_class_table(test), ""]
        lines += ["Not one of these figures compares with published nuScenes results: the data are simulated.", ""]
    else:
        lines += ["Not evaluated yet: `peft-dml-train evaluate` writes the figures here.", ""]
    lines += ["## Confidence calibration", "", *_calibration(calibration), ""]
    lines += ["## Known failures", "", KNOWN_FAILURES, ""]
    (folder / CARD).write_text("\n".join(lines))
