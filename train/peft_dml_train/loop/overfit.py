# SPDX-License-Identifier: Apache-2.0
"""A few frames learnt by heart and scored officially: shows that data, targets, network and decoding fit together.

python -m peft_dml_train.loop.overfit --data FOLDER [--frames 8] [--split sim_train] [--set pretrain.steps=320]
"""

import argparse
import json
import logging
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peft_dml_ros.core.boxes import Boxes3D, decode_candidates, non_maximum_suppression
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.nuscenes_scores import open_devkit, result_rows, score
from peft_dml_train.config import TrainConfig, load_config
from peft_dml_train.data.batch import BatchStream, collate
from peft_dml_train.data.dataset import FrameReader
from peft_dml_train.data.frame import Frame
from peft_dml_train.head.candidates import top_candidates
from peft_dml_train.loop.stages import new_network, set_threads, start_logging
from peft_dml_train.loop.trainer import Trainer
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
CONFIG = Path(__file__).parents[2] / "configs" / "overfit.yaml"
LOWEST_SCORE = 0.05
SURE_SCORE = 0.3
NEAR_M = 1.0


@torch.no_grad()
def detect(network: PeftDmlNetwork, frame: Frame, spec: ModelSpec) -> Boxes3D:
    """Return boxes of one frame, by the vehicle's own decoding."""
    batch = collate([frame], spec)
    _, (detection,) = network(batch.feeds, (batch.mask,), batch.age_s, batch.completeness)
    found = top_candidates(detection.head.heat, partial(network.head.boxes_at, detection.head), spec)._asdict()
    boxes = decode_candidates({name: value.numpy() for name, value in found.items()}, spec, LOWEST_SCORE)
    return non_maximum_suppression(boxes, spec.classes)


def found_share(truth: Boxes3D, boxes: Boxes3D, half_range_m: float) -> tuple[int, int]:
    """Return how many truth boxes within the grid have a sure box of their class near them, and how many there are."""
    inside = np.flatnonzero((np.abs(truth.centers_m[:, :2]) < half_range_m).all(axis=1))
    sure = boxes[boxes.scores >= SURE_SCORE]
    hits = 0
    for i in inside:
        same = sure.centers_m[sure.labels == truth.labels[i], :2]
        hits += bool(len(same)) and bool(np.linalg.norm(same - truth.centers_m[i, :2], axis=1).min() < NEAR_M)
    return hits, len(inside)


def overfit(config: TrainConfig, data: Path, split: str, count: int, out: Path) -> dict[str, Any]:
    """Train on a few frames and score on the same.

    Args:
        config: Recipe, see train/configs/overfit.yaml.
        data: nuScenes folder.
        split: Split or scene.
        count: Frames, taken evenly from the split.
        out: Folder for results.

    Returns:
        The official metrics; `map_of_present`: mAP over the classes that occur (the devkit counts the others as 0);
        `found`: share of the truth `boxes` with a sure box of their class within a metre.
    """
    set_threads(config)
    reader = FrameReader(data, config.spec)
    tokens = reader.tokens((split,))
    tokens = [tokens[i] for i in np.linspace(0, len(tokens) - 1, min(count, len(tokens))).astype(int)]
    frames = [reader.frame(token) for token in tokens]
    network = new_network(config)
    stage = config.pretrain.model_copy(update={"batch": min(config.pretrain.batch, len(frames))})
    Trainer(config, stage, network, out / "overfit").run(BatchStream(frames, config, stage, seed=config.seed))
    network.eval()
    results, hits, total = {}, 0, 0
    for token, frame in zip(tokens, frames, strict=True):
        boxes = detect(network, frame, config.spec)
        near, of = found_share(frame.boxes, boxes, config.spec.grid.half_range_m)
        hits, total = hits + near, total + of
        results[token] = result_rows(token, boxes, reader.reader.global_SE3_base(token))
    modalities = {f"use_{name}": True for name in ("lidar", "camera", "radar", "external")} | {"use_map": False}
    metrics = score(open_devkit(data, reader.reader.version), results, out, modalities)
    present = [np.mean(list(metrics["ap"][c].values())) for c, n in metrics["objects"].items() if n]
    return {**metrics, "map_of_present": float(np.mean(present)), "found": hits / max(total, 1), "boxes": total}


def main(arguments: list[str]) -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="nuScenes folder, real or simulated")
    parser.add_argument("--split", default="sim_train", help="split or scene")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", action="append", default=[], help="override, e.g. pretrain.steps=100")
    parser.add_argument("--out", type=Path, help="folder for results; a temporary one without it")
    given = parser.parse_args(arguments)
    start_logging()
    with tempfile.TemporaryDirectory() as temporary:
        config = load_config(given.config, tuple(given.set))
        metrics = overfit(config, given.data, given.split, given.frames, given.out or Path(temporary))
    shown = {
        name: metrics[name]
        for name in ("mean_ap", "map_of_present", "nd_score", "tp_errors", "found", "boxes", "objects", "ap")
    }
    log.info("%s", json.dumps(shown, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
