# SPDX-License-Identifier: Apache-2.0
"""What another precision of a bundle costs in accuracy: official metrics of both, for all 31 subsets of sensors."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import CLASSES, MODALITIES, Modality
from peft_dml_ros.core.errors import BundleError
from peft_dml_train.data.cache import FrameCache
from peft_dml_train.evaluation.conditions import CLEAR
from peft_dml_train.evaluation.subsets import evaluate_bundle
from peft_dml_train.export.rewriting import describe

MOST_NDS: Final = 0.5  #: Points of NDS that a subset may lose
MOST_AP: Final = 2.0  #: Points of average precision that a class may lose in a subset


@dataclass(frozen=True, slots=True)
class PrecisionLoss:
    """The loss of one subset, in points (hundredths); a gain is negative."""

    subset: str  #: Its modalities
    nds: float  #: Loss of NDS
    mean_ap: float  #: Loss of mAP
    worst_class: str  #: The class that loses most
    worst_ap: float  #: Its loss of average precision

    @property
    def within(self) -> bool:
        """True when the subset loses no more than it may."""
        return self.nds <= MOST_NDS and self.worst_ap <= MOST_AP

    def __str__(self) -> str:
        mark = "ok  " if self.within else "LOST"
        return (
            f"{mark} {self.subset}: NDS {-self.nds:+.2f}, mAP {-self.mean_ap:+.2f},"
            f" {self.worst_class} {-self.worst_ap:+.2f} points"
        )


def all_subsets() -> dict[str, tuple[Modality, ...]]:
    """Return the 31 subsets of the modalities by name, the whole set first."""
    masks = [bits for bits in product((True, False), repeat=len(MODALITIES)) if any(bits)]
    chosen = [tuple(m for m, bit in zip(MODALITIES, bits, strict=True) if bit) for bits in masks]
    return {"+".join(modalities): modalities for modalities in chosen}


def losses(own: Mapping[str, Any], other: Mapping[str, Any]) -> list[PrecisionLoss]:
    """Return the loss of each subset from its metrics (`official.score`) in the bundle's own precision to another's."""
    found = []
    for subset, before in own.items():
        after = other[subset]
        lost = {c: 100 * (fmean(before["ap"][c].values()) - fmean(after["ap"][c].values())) for c in CLASSES}
        worst = max(lost, key=lambda name: lost[name])
        nds, mean_ap = (100 * (before[k] - after[k]) for k in ("nd_score", "mean_ap"))
        found.append(PrecisionLoss(subset, nds, mean_ap, worst, lost[worst]))
    return found


def check_precision(
    bundle: Path,
    precision: str,
    data: Path,
    splits: tuple[str, ...],
    out: Path,
    cache: FrameCache | None = None,
    every: int = 1,
    *,
    record: bool = False,
) -> Iterator[str]:
    """Evaluate both precisions; yield a line for each subset, the worst first.

    Raises BundleError: the bundle does not hold the precision, or a subset loses more than `MOST_NDS` or `MOST_AP`.

    Args:
        bundle: Folder of the bundle.
        precision: One that the bundle holds.
        data: nuScenes folder.
        splits: Scenes to score.
        out: Folder for results.
        cache: Keeps prepared frames for the second evaluation.
        every: Score every so many keyframes of a scene: more scenes say more than neighbouring keyframes.
        record: Whether the losses go into the manifest and the card.
    """
    loaded = load_bundle(bundle)

    def scored(chosen: str) -> Mapping[str, Any]:
        folder = out / (chosen or "own")
        found = evaluate_bundle(
            bundle, data, splits, changed, folder, cache=cache, precision=chosen, ranges_m=(), every=every
        )
        return found[str(CLEAR)]

    # A bundle may hold some graphs alone in the other precision: subsets that run none of them lose nothing.
    other = {g for g in loaded.manifest.graphs if loaded.graph_file(g, precision) != loaded.graph_file(g, "")}
    subsets = all_subsets()
    changed = {name: used for name, used in subsets.items() if other & {*used, "fusion"}}
    found = losses(scored(""), scored(precision)) if changed else []
    found += [PrecisionLoss(name, 0.0, 0.0, CLASSES[0], 0.0) for name in subsets if name not in changed]
    lost = sorted(found, key=lambda loss: -max(loss.nds / MOST_NDS, loss.worst_ap / MOST_AP))
    yield from map(str, lost)
    if record:
        _record(bundle, precision, lost)
    if bad := [loss for loss in lost if not loss.within]:
        raise BundleError(
            f"{precision} of {bundle} loses more than {MOST_NDS} points of NDS or {MOST_AP} points of a class's AP in"
            f" {len(bad)} of {len(lost)} subsets, most in {bad[0].subset}; fix: calibrate it on more frames"
            " (peft-dml-train convert --add --data), or leave more layers in float (FLOAT_PARTS)"
        )


def _record(bundle: Path, precision: str, lost: list[PrecisionLoss]) -> None:
    """Write losses into the manifest and, where the bundle has one, the card."""
    manifest = load_bundle(bundle).manifest
    kept = {**manifest.metrics.get("precisions", {}), precision: [asdict(loss) for loss in lost]}
    describe(bundle, manifest.model_copy(update={"metrics": {**manifest.metrics, "precisions": kept}}))
