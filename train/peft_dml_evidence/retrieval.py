# SPDX-License-Identifier: Apache-2.0
"""One latent space for all sensors? An object's embedding from one modality looks for itself among those of another."""

from collections.abc import Iterable, Mapping
from itertools import permutations
from typing import Any

import numpy as np

from peft_dml_ros.core.classes import CLASSES, DETECTING
from peft_dml_ros.core.engine import Engine
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray
from peft_dml_train.data.frame import Frame
from peft_dml_train.evaluation.prepared import network_inputs
from peft_dml_train.evaluation.torch_engine import torch_engines
from peft_dml_train.losses.targets import make_targets
from peft_dml_train.network import PeftDmlNetwork

MOST_OBJECTS = 1500
DRAWN = 300  #: Objects in the picture


def embeddings(
    engines: Mapping[str, Engine], frames: Iterable[Frame], spec: ModelSpec
) -> tuple[dict[str, AnyArray], AnyArray]:
    """Return latents at object centres, (N, d) float32 unit vectors by modality, an object a row, and (N,) labels.

    Args:
        engines: Of a bundle's graphs, or of a network in memory.
        frames: Those with LiDAR, camera and radar count.
        spec: Model facts.
    """
    vectors: dict[str, list[AnyArray]] = {m: [] for m in DETECTING}
    labels: list[AnyArray] = []
    for frame in frames:
        if not frame.mask[: len(DETECTING)].all():
            continue
        targets, feeds = make_targets([frame.boxes], spec), network_inputs(frame, spec).feeds
        central = targets.central
        for m in DETECTING:
            latent = engines[m](feeds[m])["latent"]
            vectors[m].append(latent.reshape(latent.shape[1], -1)[:, targets.cell[central].numpy()].T)
        labels.append(targets.label[central].numpy())
        if sum(map(len, labels)) >= MOST_OBJECTS:
            break
    joined = {m: np.concatenate(v) if v else np.zeros((0, spec.latent_dim), np.float32) for m, v in vectors.items()}
    return joined, np.concatenate(labels) if labels else np.zeros(0, np.int64)


def recall(query: AnyArray, gallery: AnyArray, labels: AnyArray) -> dict[str, float]:
    """Return Recall@1 of one modality's embeddings in another's.

    Returns:
        `instance`: share of objects that find themselves; `class`: share whose nearest other object is of their class;
        `chance_instance` and `chance_class`: the same by guessing; `cosine`: mean over objects of the cosine to
        themselves.
    """
    n = len(labels)
    if n < 2:
        return {"instance": 0.0, "class": 0.0, "chance_instance": 0.0, "chance_class": 0.0, "cosine": 0.0}
    near = query @ gallery.T
    cosine = float(near.diagonal().mean())
    itself = near.argmax(axis=1) == np.arange(n)
    np.fill_diagonal(near, -np.inf)
    same = labels[near.argmax(axis=1)] == labels
    counts = np.bincount(labels, minlength=len(CLASSES))
    chance = float((counts * (counts - 1)).sum() / (n * (n - 1)))
    return {
        "instance": round(float(itself.mean()), 4),
        "class": round(float(same.mean()), 4),
        "chance_instance": round(1 / n, 4),
        "chance_class": round(chance, 4),
        "cosine": round(cosine, 4),
    }


def projection(vectors: dict[str, AnyArray], labels: AnyArray) -> list[list[Any]]:
    """Return points of the embedding map: modality, class, and the two main components of all modalities together."""
    n = len(labels)
    if n < 3:
        return []
    picked = np.linspace(0, n - 1, min(DRAWN, n)).astype(int)
    stacked = np.concatenate([vectors[m][picked] for m in DETECTING]).astype(np.float64)
    centred = stacked - stacked.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    # The sign of a component is arbitrary: the largest weight is positive.
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
    places = (centred @ axes.T).round(3)
    names = [(m, CLASSES[labels[i]]) for m in DETECTING for i in picked]
    return [[modality, name, *map(float, place)] for (modality, name), place in zip(names, places, strict=True)]


def measure_retrieval(network: PeftDmlNetwork, frames: Iterable[Frame], spec: ModelSpec) -> dict[str, Any]:
    """Return Recall@1 for every ordered pair of LiDAR, camera and radar, and the embedding map."""
    vectors, labels = embeddings(torch_engines(network), frames, spec)
    pairs = {f"{a}->{b}": recall(vectors[a], vectors[b], labels) for a, b in permutations(DETECTING, 2)}
    return {"objects": len(labels), "recall_at_1": pairs, "map": projection(vectors, labels)}
