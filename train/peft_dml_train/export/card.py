# SPDX-License-Identifier: Apache-2.0
"""The model card, written from the manifest's own figures."""

import json
from operator import itemgetter
from pathlib import Path
from typing import Any

from peft_dml_ros.core.adapter_mix import DEFAULT
from peft_dml_ros.core.bundle import ADAPTERS, BASE_WEIGHTS, WEIGHTS, Manifest
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.verified_files import CALIBRATION
from peft_dml_tools.markdown_pages import markdown_table

CARD = "MODEL_CARD.md"
MANY = 20
WEAK = 0.2
LEAST_GAIN = 0.01
MUCH = {"orient_err": 0.6, "vel_err": 0.8}  #: From these errors on, the card warns: radians of heading, m/s of velocity

ALWAYS = """\
- Trained and tested on simulated drives only. On real recordings expect far less; the project reports what it reaches
  on a real keyframe as it is.
- One simulated rig. Other mountings work in principle, since calibration is an input, but were never trained on.
- Without LiDAR, heights and distances of far objects are guesses: see the distances in the table by threshold.
- Classes with few test objects (the table gives the numbers) have figures that say little.
- It is a demonstration, not a safety component."""


def _failures(test: dict[str, Any]) -> list[str]:
    lines = []
    for name in (name for name in test if name in {"all", "camera only", "radar only"}):
        seen = [c for c in CLASSES if test[name]["objects"][c] >= MANY]
        weak = [c for c in seen if test[name]["ap"][c]["2.0"] < WEAK]
        if weak:
            with_ = {"all": "with all sensors", "camera only": "with cameras alone", "radar only": "with radar alone"}
            lines.append(f"- AP at 2 m below {WEAK} {with_[name]}: {', '.join(weak)}.")
    for m in (m for name, m in test.items() if name == "all"):
        if m["tp_errors"]["orient_err"] > MUCH["orient_err"]:
            lines.append(
                f"- Headings are weak (mAOE {m['tp_errors']['orient_err']:.2f} rad): boxes may lie askew or backwards."
            )
        if m["tp_errors"]["vel_err"] > MUCH["vel_err"]:
            lines.append(f"- Velocities are off by {m['tp_errors']['vel_err']:.1f} m/s in the mean (mAVE).")
    return [*lines, ALWAYS]


def _motion_line(test: dict[str, Any]) -> list[str]:
    if not {"all", "no motion"} <= test.keys():
        return []
    with_, without = (test[name]["tp_errors"]["vel_err"] for name in ("all", "no motion"))
    gain = (without - with_) / without if without else 0.0
    verdict = f"lower it by {gain:.1%}" if gain >= LEAST_GAIN else "do not lower it"
    return [f"IMU and GNSS {verdict}: the velocity error (mAVE) is {with_:.3f} with them, {without:.3f} without.", ""]


def _condition_table(conditions: dict[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name for by_subset in conditions.values() for name in by_subset))
    rows = []
    for condition, by_subset in conditions.items():
        cells = [f"{by_subset[n]['map']:.3f} / {by_subset[n]['nds']:.3f}" if n in by_subset else "" for n in names]
        rows.append((condition, *cells))
    return ["mAP / NDS in weather and under corruptions:", "", markdown_table(("condition", *names), rows), ""]


def _range_table(test: dict[str, Any]) -> list[str]:
    measured = {name: m["ranges"] for name, m in test.items() if "ranges" in m}
    if not measured:
        return []
    ranges = list(next(iter(measured.values())))
    rows = []
    for name, parts in measured.items():
        cells = ["" if parts[r]["mean_ap"] is None else f"{parts[r]['mean_ap']:.3f}" for r in ranges]
        rows.append((name, *cells))
    return ["mAP by distance, over the classes that occur there:", "", markdown_table(("sensors", *ranges), rows), ""]


def _subset_table(test: dict[str, Any]) -> str:
    distances, errors = ("0.5", "1.0", "2.0", "4.0"), ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
    rows = [
        (
            *(name, f"{m['mean_ap']:.3f}", f"{m['nd_score']:.3f}"),
            *(f"{m['ap']['car'][d]:.3f}" for d in distances),
            *(f"{m['tp_errors'][e]:.2f}" for e in errors),
        )
        for name, m in test.items()
    ]
    head = ("sensors", "mAP", "NDS", "car AP at 0.5 m", "1 m", "2 m", "4 m", "mATE", "mASE", "mAOE", "mAVE", "mAAE")
    return markdown_table(head, rows)


def _class_table(test: dict[str, Any]) -> str:
    names = [n for n in ("all", "no lidar", "no camera", "camera only", "radar only") if n in test]
    objects = next(iter(test.values()))["objects"]
    rows = []
    for c in CLASSES:
        few = "" if objects[c] >= MANY else " (few)"
        rows.append((c, f"{objects[c]}{few}", *(f"{test[n]['ap'][c]['2.0']:.3f}" for n in names)))
    return markdown_table(("class", "test objects", *names), rows)


def _calibration(calibration: dict[str, Any]) -> list[str]:
    measured = calibration.get("measured", {})
    if not measured:
        return ["Not calibrated: every temperature is 1."]
    rows = []
    for name, m in measured.items():
        key = "".join("1" if part in name.split("+") else "0" for part in ("lidar", "camera", "radar")) + "11"
        temperature = f"{calibration['temperature'][key]:.2f}"
        rows.append((name, temperature, m["boxes"], m["ece_before"], m["ece_after"]))
    return [markdown_table(("sensors", "temperature", "boxes", "ECE before", "ECE after"), rows)]


def _pairs(values: dict[str, Any] | None) -> str:
    parts = {k: ", ".join(v) if isinstance(v, list | tuple) else v for k, v in (values or {}).items()}
    return "; ".join(f"{k.replace('_', ' ')} {v}" for k, v in parts.items()) or "none recorded"


def _origin(manifest: Manifest) -> list[str]:
    origin, adapter = manifest.provenance, manifest.adapter
    stages = "; ".join(f"{n}: {s['steps']} steps, {s['minutes']} min" for n, s in origin.get("stages", {}).items())
    weather = origin.get("config", {}).get("finetune", {}).get("weather", ())
    source, command = origin.get("source", {}), f"`{origin.get('command')}`"
    how = f"One command makes it again: {command} (simulate, pretrain, finetune, export, evaluate)."
    if "note" in origin or ".sh" not in command:
        how = f"Made in pieces, with {command}; of each stage the last piece is given here."
    return [
        how,
        *(["", origin["note"], ""] if "note" in origin else []),
        f"Stages: {stages or 'none recorded'}. Scenes: {_pairs(origin.get('splits'))}.",
        f"Source: {source.get('scenes', 0)} scenes; {_pairs(source.get('domain'))}.",
        f"Data: {_pairs(origin.get('data'))}.",
        f"Weather of the fine-tuning: {', '.join(weather) or 'as recorded'}.",
        "",
        *_parts(manifest),
        "",
        "The encoders are pretrained on the training scenes, then frozen; the fine-tuning trains LoRA",
        f"(rank {adapter.get('rank')}) on their convolutions and linear layers, bottleneck adapters,",
        "projections, fusion and head.",
        "",
        "Why this recipe: each of its parts was left out or changed in turn, with a smaller network and rank 8 among",
        "others; what earns its place, and which claims do not hold, is in the project's `docs/results.md`.",
    ]


def _parts(manifest: Manifest) -> list[str]:
    """Return what of the network is in the bundle, and in which form."""
    base, adapter, compact = manifest.base, manifest.adapter, manifest.provenance.get("compact")
    known = f"Base: {base.get('weights')}; sha256 {str(base.get('sha256'))[:16]}"
    if not adapter.get("merged"):
        return [
            f"{known}, its weights in `{BASE_WEIGHTS}`.",
            "Adapters: `adapters/default`, with which all figures here were measured, and those next to it, in peft's",
            "format; the vehicle merges one when it loads the graphs.",
        ]
    lines = [f"{known}, not in this bundle.", f"Adapter: '{adapter.get('name')}', merged into the graphs for good."]
    if compact:
        lines += [
            f"Stored: {compact['values']:,} weights in 8 bit, with a step by output channel, in `{WEIGHTS}`;",
            "the graphs compute in float.",
        ]
    return lines


def _reach(metrics: dict[str, Any], kind: str) -> list[str]:
    test = metrics.get("test")
    precisions = _precision_lines(metrics.get("precisions", {}))
    if not test:
        return ["Not evaluated yet: `peft-dml-train evaluate` writes the figures here.", "", *precisions]
    lines = ["nuscenes-devkit's own detection evaluation on test scenes that no training has seen.", ""]
    lines += [_subset_table(test), "", *_motion_line(test), "AP at 2 m by class:", "", _class_table(test), ""]
    lines += _range_table(test)
    if conditions := metrics.get("conditions"):
        lines += _condition_table(conditions)
    lines += precisions
    if kind == "simulated":
        lines += ["Not one of these figures compares with published nuScenes results: the data are simulated.", ""]
    return lines


def _precision_lines(precisions: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return what further precisions lose, as `check-precision --record` found it."""
    lines = []
    for name, losses in precisions.items():
        by_nds, by_class = (max(losses, key=itemgetter(key)) for key in ("nds", "worst_ap"))
        lines.append(
            f"{name} against fp32 in {len(losses)} subsets of sensors: at most {by_nds['nds']:.2f} points of NDS lost "
            f"({by_nds['subset']}), at most {by_class['worst_ap']:.2f} points of AP of a class "
            f"({by_class['worst_class']}, {by_class['subset']})."
        )
    return [*lines, ""] if lines else []


def bundle_calibration(folder: Path) -> dict[str, Any]:
    """Return the confidence calibration that a bundle's default adapter, or the bundle itself, comes with."""
    for file in (folder / ADAPTERS / DEFAULT / CALIBRATION, folder / CALIBRATION):
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
    return {}


def write_card(folder: Path, manifest: Manifest, calibration: dict[str, Any]) -> None:
    """Write MODEL_CARD.md into a bundle."""
    p, origin = manifest.parameters, manifest.provenance
    kind = "simulated" if origin.get("simulated", True) else "real"
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        manifest.description,
        "",
        f"Licence: {manifest.licence}. Trained on {kind} data; seed {origin.get('seed')}.",
        "",
        "## How it was made",
        "",
        *_origin(manifest),
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
        *_reach(manifest.metrics, kind),
        "## Confidence calibration",
        "",
        *_calibration(calibration),
        "",
        "## Known failures",
        "",
        *_failures(manifest.metrics.get("test", {})),
        "",
    ]
    (folder / CARD).write_text("\n".join(lines))
