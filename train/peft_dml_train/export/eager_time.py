# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime against PyTorch as it is, on the same network.

python -m peft_dml_train.export.eager_time BUNDLE REPEATS

One thread each, in turn, processor time. Prints one line of JSON.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from peft_dml_ros.core.bundle import Bundle, load_bundle
from peft_dml_ros.core.spec import graph_inputs
from peft_dml_ros.engines import load_engines
from peft_dml_train.config import TrainConfig
from peft_dml_train.export.graphs import example_inputs, graph_module
from peft_dml_train.network import PeftDmlNetwork

WARM_UP = 2


def network_of(bundle: Bundle) -> PeftDmlNetwork:
    """Return an untrained network of the bundle's sizes: weights do not change the time."""
    recipe = bundle.manifest.provenance.get("config", {})
    config = TrainConfig.model_validate({k: recipe[k] for k in ("network", "adapters") if k in recipe})
    return PeftDmlNetwork(bundle.spec, config.network, config.adapters).eval()


@torch.no_grad()
def compare_times(bundle: Bundle, repeats: int) -> dict[str, object]:
    """Return the median milliseconds by graph, both ways, and the ratio of the sums."""
    torch.set_num_threads(1)
    network, engines = network_of(bundle), load_engines(bundle, threads=1)
    exported: dict[str, float] = {}
    eager: dict[str, float] = {}
    for graph, names in graph_inputs(bundle.spec).items():
        module, inputs = graph_module(network, graph).eval(), example_inputs(bundle.spec, graph)
        feeds = {n: v.numpy() for n, v in zip(names, inputs, strict=True)}
        spent = []
        for _ in range(repeats + WARM_UP):
            begin = time.process_time()
            engines[graph](feeds)
            middle = time.process_time()
            module(*inputs)
            spent.append((middle - begin, time.process_time() - middle))
        exported[graph], eager[graph] = (round(float(v) * 1e3, 3) for v in np.median(spent[WARM_UP:], axis=0))
    ratio = sum(exported.values()) / sum(eager.values())
    return {"onnxruntime_ms": exported, "eager_ms": eager, "ratio": round(ratio, 3), "torch": torch.__version__}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compare_times(load_bundle(Path(sys.argv[1])), int(sys.argv[2]))) + "\n")
