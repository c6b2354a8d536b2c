# SPDX-License-Identifier: Apache-2.0
"""Do the exported graphs compute what the network computes?"""

from collections.abc import Mapping

import numpy as np
import torch

from peft_dml_ros.core.engine import Engine
from peft_dml_ros.core.errors import BundleError
from peft_dml_ros.core.spec import graph_inputs, graph_outputs
from peft_dml_ros.core.typing import AnyArray
from peft_dml_train.export.graphs import example_inputs, graph_module
from peft_dml_train.network import PeftDmlNetwork

TOLERANCE = 1e-3


@torch.no_grad()
def parity(network: PeftDmlNetwork, engines: Mapping[str, Engine]) -> dict[str, float]:
    """Return the largest difference of each graph's outputs, relative to the largest value.

    Candidates are compared by score and by what they hold where both sides name the same cell: equal scores may swap
    places.

    Raises:
        BundleError: a graph differs by more than `TOLERANCE`, or declares other shapes than the spec.
    """
    differences = {}
    for graph, engine in engines.items():
        inputs = example_inputs(network.spec, graph, seed=3)
        wanted = graph_module(network, graph)(*inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        names = list(graph_outputs(network.spec)[graph])
        reference = {n: v.numpy() for n, v in zip(names, wanted, strict=True)}
        found = engine({n: v.numpy() for n, v in zip(graph_inputs(network.spec)[graph], inputs, strict=True)})
        for name, (shape, dtype) in graph_outputs(network.spec)[graph].items():
            if (found[name].shape, str(found[name].dtype)) != (shape, dtype):
                msg = f"{graph}: output {name} is {found[name].shape} {found[name].dtype}; fix: {shape} {dtype}"
                raise BundleError(msg)
        differences[graph] = _difference(reference, found)
        if differences[graph] > TOLERANCE:
            msg = f"graph '{graph}' differs from the network by {differences[graph]:.2e}, over {TOLERANCE:.0e}"
            raise BundleError(f"{msg}; fix: do not ship it")
    return differences


def _difference(reference: dict[str, AnyArray], found: dict[str, AnyArray]) -> float:
    worst = 0.0
    same = np.ones(1, dtype=bool)
    if "cells" in reference:
        same = (reference["cells"] == found["cells"]) & (reference["labels"] == found["labels"])
        worst = 0.0 if same.mean() > 0.5 else 1.0
    for name in reference.keys() - {"cells", "labels"}:
        rows = same if name in {"regression", "attributes"} else slice(None)
        value, other = reference[name][rows], found[name][rows]
        scale = max(float(np.abs(value).max(initial=0)), 1e-6)
        worst = max(worst, float(np.abs(value - other).max(initial=0)) / scale)
    return worst
