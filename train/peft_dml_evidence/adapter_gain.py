# SPDX-License-Identifier: Apache-2.0
"""What one adapter of a bundle gains over another in given weather, on the same frames, with an interval.

python -m peft_dml_evidence.adapter_gain --bundle models/base --adapter rain --data runs/demo/target --weather rain=40
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.bundle import Bundle, load_bundle
from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import Float32Array
from peft_dml_ros.engines import load_engines
from peft_dml_train.data.dataset import FrameReader, FrameRequest
from peft_dml_train.data.frame import Frame
from peft_dml_train.evaluation.conditions import Condition, parse_conditions
from peft_dml_train.export.adapter import complete_adapter
from peft_dml_train.few_shot.frames import FrameDetector
from peft_dml_train.few_shot.gain import FrameHits, compare


def hits_of(bundle: Bundle, frames: Sequence[Frame], sensors: tuple[Modality, ...] = MODALITIES) -> list[FrameHits]:
    """Return what a bundle finds in frames, compared with their truth."""
    return FrameDetector(bundle, load_engines(bundle, threads=1), sensors).hits(frames)


def frames_of(data: Path, bundle: Bundle, split: str) -> list[Frame]:
    """Return the keyframes of a split as they were recorded."""
    reader = FrameReader(data, bundle.spec)
    return [reader.prepared(FrameRequest(token)) for token in reader.tokens((split,))]


def frames_under(data: Path, bundle: Bundle, split: str, condition: Condition) -> Iterator[Frame]:
    """Yield the keyframes of a split in some weather, or corrupted."""
    reader = FrameReader(data, bundle.spec)
    for token in reader.tokens((split,)):
        whole = reader.reader.truth(token, keep_unseen=True)

        def change(seen: Snapshot, rig: Rig, _: Boxes3D, whole: Boxes3D = whole) -> tuple[Snapshot, Float32Array]:
            return condition.apply(seen, rig, None, whole), np.ones(len(MODALITIES), np.float32)

        yield reader.frame(token, change)


def main(
    bundle: Annotated[Path, typer.Option(help="Bundle with both adapters")],
    adapter: Annotated[str, typer.Option(help="The one that should gain")],
    data: Annotated[Path, typer.Option(help="nuScenes folder")],
    weather: Annotated[list[str], typer.Option(help="As for peft-dml-train evaluate; repeatable")],
    over: Annotated[str, typer.Option(help="The other one")] = "default",
    split: Annotated[str, typer.Option(help="Scenes that no training saw")] = "sim_test",
    *,
    record: Annotated[bool, typer.Option("--record", help="Write the gains into the adapter's card")] = False,
) -> None:
    """Compare two adapters in each weather."""
    before, after = (load_bundle(bundle, adapter=name) for name in (over, adapter))
    gains: dict[str, Any] = {}
    for condition in parse_conditions(weather):
        frames = list(frames_under(data, before, split, condition))
        gain = compare(hits_of(before, frames), hits_of(after, frames))
        typer.echo(f"{condition}: '{adapter}' over '{over}': {gain}")
        pairs = {"nds": (gain.before.nds, gain.after.nds), "map": (gain.before.mean_ap, gain.after.mean_ap)}
        pairs |= {"gain_95_percent": (gain.low, gain.high)}
        figures = {name: [round(value, 4) for value in pair] for name, pair in pairs.items()}
        gains[str(condition)] = {**figures, "verdict": gain.verdict, "frames": gain.frames}
    if record:
        part, _ = after.adapters.parts[0]
        complete_adapter(part.path, metrics={f"gain over '{over}'": gains})


if __name__ == "__main__":
    typer.run(main)
