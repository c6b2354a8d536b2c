# SPDX-License-Identifier: Apache-2.0
"""One ONNX graph per encoder and one for fusion and head, with the static shapes of `core.spec`."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import onnxslim
import torch
from torch import nn

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.spec import ModelSpec, graph_inputs, graph_outputs
from peft_dml_train.data.synthetic import random_feeds
from peft_dml_train.export.operators import prepare, require_operators
from peft_dml_train.fusion.attention import pooled_gate
from peft_dml_train.head.candidates import top_candidates
from peft_dml_train.network import PeftDmlNetwork

OPSET = 17


class EncoderGraph(nn.Module):
    """One encoder with adapter and projection; inputs without the batch axis, as the vehicle gives them."""

    def __init__(self, network: PeftDmlNetwork, modality: str) -> None:
        super().__init__()
        self.network, self.modality = network, modality
        self.names = tuple(graph_inputs(network.spec)[modality])

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Latent (1, d, H, W) or (1, d)."""
        feeds = {name: value[None] for name, value in zip(self.names, inputs, strict=True)}
        return self.network.encode(self.modality, feeds)[0]


class FusionGraph(nn.Module):
    """Fusion, head, peaks and the frame's gate."""

    def __init__(self, network: PeftDmlNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs in the order of `graph_outputs`."""
        latents = dict(zip(map(str, MODALITIES), inputs[:5], strict=True))
        mask, age_s, completeness = (x[None] for x in inputs[5:])
        fused, head = self.network.detect(latents, mask, age_s, completeness)
        return (*top_candidates(head, self.network.spec), pooled_gate(fused.gates, head.heat.sigmoid())[0])


def example_inputs(spec: ModelSpec, graph: str, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Random inputs of one graph."""
    if graph != "fusion":
        return tuple(value[0] for value in random_feeds(spec, 1, seed)[graph].values())
    draw = torch.Generator().manual_seed(seed)
    inputs = []
    for name, (shape, _) in graph_inputs(spec)["fusion"].items():
        if name in MODALITIES:
            inputs.append(nn.functional.normalize(torch.randn(shape, generator=draw), dim=1))
        else:
            inputs.append(torch.zeros(shape) if name == "age_s" else torch.ones(shape))
    return tuple(inputs)


def graph_module(network: PeftDmlNetwork, graph: str) -> nn.Module:
    """The part of the network that a graph holds."""
    return FusionGraph(network) if graph == "fusion" else EncoderGraph(network, graph)


def export_graphs(network: PeftDmlNetwork, folder: Path) -> dict[str, Path]:
    """Write all graphs; the network is put into evaluation mode.

    Returns:
        Path by graph name.
    """
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    spec, paths = network.spec, {}
    for graph, inputs in graph_inputs(spec).items():
        path = folder / f"{graph}.onnx"
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph_module(network, graph).eval(),
                example_inputs(spec, graph),
                str(path),
                input_names=list(inputs),
                output_names=list(graph_outputs(spec)[graph]),
                opset_version=OPSET,
                dynamo=False,
            )
        model = prepare(onnxslim.slim(onnx.load(path)))
        onnx.save(require_operators(model, graph), path)
        paths[graph] = path
    return paths
