# SPDX-License-Identifier: Apache-2.0
"""Do adapters from mined frames beat those from as many random ones on a domain gap?

    train/recipes/mining.sh

Each seed adapts twice by `peft-dml-train adapt`: with the frames that `fleet mine` chose, and with as many drawn at
random from the same drives. An adapter is taken even if its gain on the frames held out may be chance; where no step
was better, the adapter before stays. Both are scored on test frames of the gap that neither has seen.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from peft_dml_evidence.adapter_gain import frames_of, hits_of
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import DataError
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.evaluation.student_interval import student_interval
from peft_dml_train.data.frame import Frame
from peft_dml_train.few_shot.adapt import AdaptOptions, adapt
from peft_dml_train.few_shot.gain import FrameHits, accuracy, compare
from peft_dml_train.loop.stages import start_logging

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingArm:
    """One side of the comparison: an adapter, its frames and its seed."""

    name: str  #: `mined` or `random`
    seed: int  #: Of its draws
    data: Path  #: nuScenes folder of its frames
    out: Path  #: Folder of its adapter


def train_arm(base: Path, arm: TrainingArm, steps: int) -> None:
    """Adapt, where there is no adapter yet; the log says so where none comes of it."""
    if arm.out.is_dir():
        return
    options = AdaptOptions(steps=steps, minutes=60.0, seed=arm.seed, patience=steps, undecided=True, resume=True)
    try:
        log.info("%s, seed %d: %s", arm.name, arm.seed, adapt(base, arm.data, arm.out, options))
    except DataError as error:
        log.info("%s, seed %d: %s", arm.name, arm.seed, error)


def score_arms(base: Path, arms: Sequence[TrainingArm], frames: Sequence[Frame]) -> dict[str, Any]:
    """Return NDS of the base and of each arm, which is the base's without an adapter, and mined - random."""
    before = hits_of(load_bundle(base), frames)
    hits: dict[tuple[str, int], list[FrameHits]] = {}
    for arm in arms:
        made = arm.out.is_dir()
        hits[arm.name, arm.seed] = hits_of(load_bundle(base, adapter=str(arm.out)), frames) if made else before
    seeds = sorted({arm.seed for arm in arms})
    by_seed, changes = list[dict[str, Any]](), list[float]()
    for seed in seeds:
        gain = compare(hits["random", seed], hits["mined", seed], seed)
        changes.append(gain.change)
        adapted = {arm.name: arm.out.is_dir() for arm in arms if arm.seed == seed}
        interval = [round(gain.low, 4), round(gain.high, 4)]
        values = {"random": round(gain.before.nds, 4), "mined": round(gain.after.nds, 4)}
        by_seed.append({"seed": seed, **values, "frames_95_percent": interval, "adapted": adapted})
    found = student_interval(changes)
    verdict = "mined is better" if found.low > 0 else "random is better" if found.high < 0 else "undecided"
    return {
        "base": round(accuracy(before).nds, 4),
        "test_frames": len(frames),
        "by_seed": by_seed,
        "difference": round(found.mean, 4),
        "seeds_95_percent": [round(found.low, 4), round(found.high, 4)],
        "verdict": verdict,
    }


def main(
    base: Annotated[Path, typer.Option(help="Bundle with a base")],
    work: Annotated[Path, typer.Option(help="Folder with mined/ and random-SEED/; adapters go there")],
    test: Annotated[Path, typer.Option(help="nuScenes folder of the gap")],
    split: Annotated[str, typer.Option(help="Its test split")] = "sim_test",
    seeds: Annotated[int, typer.Option(min=2, help="Pairs of trainings")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each")] = 100,
    out: Annotated[Path, typer.Option(help="Results")] = Path("train/results/mining.json"),
) -> None:
    """Train both arms of each seed, and score them."""
    start_logging()
    adapters = work / "adapters"
    arms = [
        TrainingArm(name, seed, work / (name if name == "mined" else f"{name}-{seed}"), adapters / f"{name}-{seed}")
        for seed in range(1, seeds + 1)
        for name in ("mined", "random")
    ]
    for arm in arms:
        train_arm(base, arm, steps)
    report = score_arms(base, arms, frames_of(test, load_bundle(base), split))
    mined = json.loads((work / "mined" / "mined.json").read_text())
    report |= {"frames": len(mined["chosen"]), "candidates": mined["candidates"], "steps": steps}
    write_json(out, report)
    typer.echo(json.dumps({k: v for k, v in report.items() if k != "by_seed"}))


if __name__ == "__main__":
    typer.run(main)
