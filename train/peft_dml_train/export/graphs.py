# SPDX-License-Identifier: Apache-2.0
"""One ONNX graph per encoder and one for fusion and head, with the static shapes of `core.spec`."""

import io
import warnings
from copy import deepcopy
from functools import partial
from pathlib import Path

import onnx
import onnxslim
import torch
from onnx import numpy_helper
from torch import nn

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.spec import ModelSpec, graph_inputs, graph_outputs
from peft_dml_train.adapters.base_weights import save_base
from peft_dml_train.data.synthetic import random_feeds
from peft_dml_train.export.norms import fold_parameters
from peft_dml_train.export.operators import prepare, require_operators
from peft_dml_train.export.weights import refer_to_base, with_weights
from peft_dml_train.fusion.attention import pooled_gate
from peft_dml_train.head.candidates import top_candidates
from peft_dml_train.network import PeftDmlNetwork

OPSET = 17
PREFIX = "network."  #: Before the names of parameters in an exported graph


class EncoderGraph(nn.Module):
    """One encoder with adapter and projection; inputs without the batch axis, as the vehicle gives them."""

    def __init__(self, network: PeftDmlNetwork, modality: str) -> None:
        super().__init__()
        self.network, self.modality = network, modality
        self.names = tuple(graph_inputs(network.spec)[modality])

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the latent (1, d, H, W) or (1, d)."""
        feeds = {name: value[None] for name, value in zip(self.names, inputs, strict=True)}
        return self.network.encode(self.modality, feeds)[0]


class FusionGraph(nn.Module):
    """Fusion, head, peaks and the frame's gate."""

    def __init__(self, network: PeftDmlNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return outputs in the order of `graph_outputs`."""
        latents = dict(zip(map(str, MODALITIES), inputs[:5], strict=True))
        mask, age_s, completeness = (x[None] for x in inputs[5:])
        fused, head = self.network.detect(latents, mask, age_s, completeness)
        boxes_at = partial(self.network.head.boxes_at, head)
        found = top_candidates(head.heat, boxes_at, self.network.spec)
        return (*found, pooled_gate(fused.gates, head.heat.sigmoid())[0])


def example_inputs(spec: ModelSpec, graph: str, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Return random inputs of one graph."""
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
    """Return the part of the network that a graph holds."""
    return FusionGraph(network) if graph == "fusion" else EncoderGraph(network, graph)


def export_graphs(network: PeftDmlNetwork, folder: Path) -> dict[str, Path]:
    """Write the base's weights and all graphs, in evaluation mode; return the graphs' paths by name.

    The weights are stored as `base_weights.rounded` has them: a network that is to be compared must hold these.
    """
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    spec, paths = network.spec, {}
    base = save_base(network.state_dict(), folder)
    for graph in graph_inputs(spec):
        path = folder / f"{graph}.onnx"
        model = refer_to_base(skeleton(network, graph), base)
        require_operators(with_weights(model, folder), graph)
        onnx.save(model, path)
        paths[graph] = path
    return paths


def skeleton(network: PeftDmlNetwork, graph: str) -> onnx.ModelProto:
    """Return a graph whose parameters are inputs by their names in the network, its batch norms folded.

    As inputs the parameters keep their names, since no exporter folds what has no value. It joins parameters of equal
    values all the same, so that those of a copy are drawn: what is zero in the base need not be in an adapter.
    """
    spec, module = network.spec, graph_module(_drawn(network), graph).eval()
    file = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            example_inputs(spec, graph),
            file,  # type: ignore[arg-type]  # the exporter takes files too
            input_names=list(graph_inputs(spec)[graph]),
            output_names=list(graph_outputs(spec)[graph]),
            opset_version=OPSET,
            dynamo=False,
            export_params=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
        )
    model = onnx.load_from_string(file.getvalue())
    parameters = network.state_dict()
    for value in [v for v in model.graph.input if v.name.startswith(PREFIX)]:
        name = value.name.removeprefix(PREFIX)
        if name not in parameters:  # a constant that the network makes itself
            model.graph.initializer.append(numpy_helper.from_array(network.get_buffer(name).numpy(), value.name))
            model.graph.input.remove(value)
    # Its elimination of common subexpressions takes distinct ones for equal where weights are inputs (0.1.98).
    model = onnxslim.slim(model, skip_optimizations=["subexpression_elimination"])
    _rename(model.graph)
    ranks = {name: value.ndim for name, value in parameters.items()}
    return prepare(fold_parameters(model, ranks))


def _drawn(network: PeftDmlNetwork) -> PeftDmlNetwork:
    """Return a copy whose parameters and statistics are all different; constants that it makes itself stay."""
    copy = deepcopy(network).cpu()
    draw = torch.Generator().manual_seed(0)
    for value in copy.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5, generator=draw)
    return copy


def _rename(graph: onnx.GraphProto) -> None:
    """Name parameters as the network does."""
    for value in (*graph.input, *graph.initializer):
        value.name = value.name.removeprefix(PREFIX)
    for node in graph.node:
        node.input[:] = [name.removeprefix(PREFIX) for name in node.input]
