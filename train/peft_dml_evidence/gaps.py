# SPDX-License-Identifier: Apache-2.0
"""What a few frames gain on domains that a base was not adapted to, with labels and without.

    train/recipes/gaps.sh

Each adapter is compared with the one it went on from, on frames of other scenes of its domain. Where `adapt` wrote
none, because frames held out got no better, the adapter before stays, as for a user. The row says what `adapt` said.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from peft_dml_evidence.adapter_gain import frames_of, hits_of
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.few_shot.adapt import WITHOUT_LIDAR
from peft_dml_train.few_shot.gain import FEWEST_BOXES, accuracy, common_classes, compare, of_classes

#: Kind of labels, which names the adapter, and the sensors that it is measured with
SENSORS: Final[dict[str, tuple[Modality, ...]]] = {"labelled": MODALITIES, "unlabelled": WITHOUT_LIDAR}

SAID: Final = re.compile(r"NDS \S+ -> \S+, (.+?, \w+) on \d+ frames")
Row = dict[str, Any]


def measure_gap(base: Path, domain: Path) -> Iterator[Row]:
    """Yield a row for each kind of labels; `domain` holds test/, the adapters that were written, what `adapt` said."""
    bundle = load_bundle(base)
    frames, reader = frames_of(domain / "test", bundle, "sim_test"), NuScenesReader(domain / "test")
    scenes = [reader.scene_of(frame.token) for frame in frames]
    for labels, sensors in SENSORS.items():
        found = hits_of(bundle, frames, sensors)
        before = of_classes(found, classes := common_classes(found))
        row: Row = {"domain": domain.name, "labels": labels, "sensors": list(sensors), "test_frames": len(frames)}
        mean_ap, nds = accuracy(before)
        said = SAID.search((domain / f"{labels}.txt").read_text())
        row |= {"map_before": mean_ap, "nds_before": nds, "adapted": False}
        row |= {"adapt_said": said[1] if said else "no step was better"}
        if (made := domain / labels).is_dir():
            adapted = load_bundle(base, adapter=str(made))
            gain = compare(before, of_classes(hits_of(adapted, frames, sensors), classes), groups=scenes)
            row |= {"adapted": True, "map": gain.after.mean_ap, "nds": gain.after.nds, "verdict": gain.verdict}
            row |= {"gain_95_percent": [round(gain.low, 4), round(gain.high, 4)]}
            row |= {"frames": adapted.adapters.parts[0][0].card.provenance["frames_trained"]}
        yield {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


def main(
    base: Annotated[Path, typer.Option(help="Bundle with a base")],
    work: Annotated[Path, typer.Option(help="Folder of gaps.sh: one folder a domain")],
    scenes: Annotated[int, typer.Option(help="Of each domain, to adapt on")],
    steps: Annotated[int, typer.Option(help="Of an adapter at most")],
    out: Annotated[Path, typer.Option(help="Results")] = Path("train/results/gaps.json"),
) -> None:
    """Measure every domain of a folder."""
    domains = sorted(path.parent for path in work.glob("*/test"))
    rows = [row for domain in domains for row in measure_gap(base, domain)]
    how = {"over": "scenes and frames", "classes": f"with at least {FEWEST_BOXES} boxes there"}
    write_json(out, {"base": base.name, "scenes": scenes, "steps": steps, **how, "rows": rows})
    typer.echo(out.read_text())


if __name__ == "__main__":
    typer.run(main)
