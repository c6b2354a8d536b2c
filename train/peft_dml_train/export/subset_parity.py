# SPDX-License-Identifier: Apache-2.0
"""Do the exported graphs give what the network gives, whatever sensors are there?"""

from collections.abc import Iterable, Mapping
from itertools import product

import numpy as np
import torch

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.engine import Engine
from peft_dml_ros.core.errors import BundleError
from peft_dml_ros.core.inputs import NetworkInputs
from peft_dml_ros.core.spec import graph_inputs, graph_outputs
from peft_dml_ros.core.typing import AnyArray
from peft_dml_train.export.graphs import graph_module
from peft_dml_train.export.parity import TOLERANCE
from peft_dml_train.network import PeftDmlNetwork

#: All 31 subsets of the modalities
MASKS = tuple(np.array(bits, dtype=np.float32) for bits in product((1, 0), repeat=5) if any(bits))

BACKGROUND = 0.05  #: Scores below this are what the network says of empty ground
MAX_UNMATCHED = 0.1  #: Share of the other candidates that may sit one cell further


@torch.no_grad()
def subset_parity(network: PeftDmlNetwork, engines: Mapping[str, Engine], frames: Iterable[NetworkInputs]) -> float:
    """Return the largest difference of the results over frames and all 31 masks, relative to the largest value.

    Raises BundleError: it is more than `TOLERANCE`.

    Args:
        network: Merged, in evaluation mode.
        engines: By graph.
        frames: Inputs, random or measured; masks over modalities that a frame lacks are left out.
    """
    outputs = graph_outputs(network.spec)
    names = list(outputs["fusion"])
    fusion, worst = graph_module(network, "fusion"), 0.0
    for frame in frames:
        torches, arrays = {}, {}
        for m, feeds in frame.feeds.items():
            inputs = [torch.from_numpy(np.array(feeds[name])) for name in graph_inputs(network.spec)[m]]
            torches[m], arrays[m] = graph_module(network, m)(*inputs), engines[m](feeds)["latent"]
        for mask in (mask for mask in MASKS if (mask <= frame.mask).all()):
            state = (mask, frame.age_s * mask, frame.completeness * mask)
            keep = dict(zip(MODALITIES, mask, strict=True))
            latents = {m: torches[m] if keep[m] else torch.zeros(outputs[m]["latent"][0]) for m in MODALITIES}
            wanted = fusion(*latents.values(), *map(torch.from_numpy, state))
            feeds = {str(m): arrays[m] if keep[m] else latents[m].numpy() for m in MODALITIES}
            found = engines["fusion"](feeds | dict(zip(("mask", "age_s", "completeness"), state, strict=True)))
            worst = max(worst, difference({n: v.numpy() for n, v in zip(names, wanted, strict=True)}, found))
    if worst > TOLERANCE:
        msg = f"graphs and network differ by {worst:.1e} of the largest value, over {TOLERANCE:.0e}"
        raise BundleError(f"{msg}; fix: do not ship them")
    return worst


def difference(reference: Mapping[str, AnyArray], found: Mapping[str, AnyArray]) -> float:
    """Return the largest relative difference of the gate, and of what candidates of the same cell and class hold.

    Where the heat map is flat the last bit of rounding decides which neighbour is the peak, so candidates are matched
    by cell and class. Of those well above the rest nearly all must have a match; else the difference is 1.
    """
    rows = {key: i for i, key in enumerate(zip(reference["cells"], reference["labels"], strict=True))}
    pairs = {rows[k]: j for j, k in enumerate(zip(found["cells"], found["labels"], strict=True)) if k in rows}
    confident = np.flatnonzero(reference["scores"] > max(BACKGROUND, 2 * float(reference["scores"].min())))
    if sum(i not in pairs for i in confident.tolist()) > MAX_UNMATCHED * len(confident):
        return 1.0
    worst = [_relative(reference["gate"], found["gate"])]
    mine, others = list(pairs), list(pairs.values())
    worst += [_relative(reference[n][mine], found[n][others]) for n in ("scores", "regression", "attributes") if mine]
    return max(worst)


def _relative(reference: AnyArray, found: AnyArray) -> float:
    return float(np.abs(reference - found).max() / max(float(np.abs(reference).max()), 1e-6))
