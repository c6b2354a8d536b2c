# SPDX-License-Identifier: Apache-2.0
"""A network in memory behind the vehicle's engine interface, before it is exported."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from peft_dml_ros.core.bundle import Bundle, Manifest
from peft_dml_ros.core.engine import Engine, EngineArray
from peft_dml_ros.core.spec import graph_inputs, graph_outputs
from peft_dml_ros.core.typing import AnyArray
from peft_dml_train.export.bundle import graph_infos
from peft_dml_train.export.graphs import graph_module
from peft_dml_train.network import PeftDmlNetwork


class TorchEngine:
    """One of a bundle's graphs, run by torch; an export's parity test holds both together."""

    def __init__(self, network: PeftDmlNetwork, graph: str, device: str = "cpu") -> None:
        self.inputs, self.outputs = graph_inputs(network.spec)[graph], graph_outputs(network.spec)[graph]
        self.elapsed_ms, self._device = 0.0, device
        self._module = graph_module(network, graph).to(device)

    @torch.inference_mode()
    def __call__(self, feeds: Mapping[str, EngineArray]) -> dict[str, AnyArray]:
        """Run the graph in evaluation mode; see `Engine`."""
        self._module.eval()
        given = [torch.tensor(np.asarray(feeds[name])).to(self._device) for name in self.inputs]
        result = self._module(*given)
        values = result if isinstance(result, tuple) else (result,)
        return {
            name: value.cpu().numpy().astype(dtype)
            for (name, (_, dtype)), value in zip(self.outputs.items(), values, strict=True)
        }

    start = __call__

    def warm_up(self) -> None:
        """Do nothing: nothing is compiled."""


def torch_engines(network: PeftDmlNetwork, device: str = "cpu") -> dict[str, Engine]:
    """Return an engine for every graph of a network."""
    return {graph: TorchEngine(network, graph, device) for graph in graph_inputs(network.spec)}


def bundle_in_memory(network: PeftDmlNetwork) -> Bundle:
    """Return a bundle that has no files, for a detector on a network's engines."""
    spec = network.spec
    manifest = Manifest(
        name="network", version="0", description="in memory", spec=spec, graphs=graph_infos(spec), files={},
        trained_share=0.0,
    )  # fmt: skip
    return Bundle(Path(), manifest, {})
