# SPDX-License-Identifier: Apache-2.0
"""Encoders out of a released bundle's graphs, where the weights that trained it were not distributed.

An exported graph holds each encoder with its adapters merged and its batch norms folded into the convolutions. A folded
norm comes back as one that adds the bias: in evaluation mode, as frozen encoders run, the two compute the same.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import DataError
from peft_dml_train.encoders import lidar, radar
from peft_dml_train.encoders.blocks import EPS
from peft_dml_train.network import PeftDmlNetwork

WEIGHTED = {"Conv", "Gemm", "MatMul"}


@torch.no_grad()
def load_released(network: PeftDmlNetwork, bundle: Path, modalities: tuple[str, ...]) -> dict[str, int]:
    """Fill encoders from a bundle's graphs.

    Args:
        network: Changed in place.
        bundle: Folder of the bundle; its files are checked against its manifest.
        modalities: Encoders to fill.

    Returns:
        Tensors filled, by modality.

    Raises:
        DataError: a graph holds an encoder of other layers or sizes.
    """
    path, filled = load_bundle(bundle).path, {}
    for m in modalities:
        wanted = {n: v for n, v in network.encoders[m].state_dict().items() if not n.endswith("num_batches_tracked")}
        found = _tensors(onnx.load(path / f"{m}.onnx"), m, wanted)
        wrong = sorted(n for n, v in wanted.items() if n not in found or found[n].shape != v.shape)
        if wrong:
            msg = f"{path / f'{m}.onnx'} holds another encoder than the recipe's, at {', '.join(wrong[:3])}"
            raise DataError(f"{msg}; fix: set network.{m} to the sizes that the bundle was trained with")
        network.encoders[m].load_state_dict(found, strict=False)
        filled[m] = len(wanted)
    return filled


def _tensors(model: onnx.ModelProto, modality: str, wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    values = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    for node in model.graph.node:
        # Weights stored in 16 bit are cast when the graph is loaded.
        if node.op_type == "Cast" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]].astype(np.float32)
    found: dict[str, torch.Tensor] = {}
    for node in model.graph.node:
        layer = _layer(node.output[0], modality)
        constants = [values[name] for name in node.input if name in values]
        if node.op_type not in WEIGHTED | {"BatchNormalization"} or not constants or layer is None:
            continue
        arrays = [torch.from_numpy(np.array(value, dtype=np.float32)) for value in constants]
        if node.op_type == "BatchNormalization":
            names = ("weight", "bias", "running_mean", "running_var")
            found |= {f"{layer}.{name}": value for name, value in zip(names, arrays, strict=True)}
        elif node.op_type == "MatMul":
            scales = torch.tensor(_scales(modality))
            found[f"{layer}.weight"] = (arrays[0] / scales[:, None]).t()
        else:
            found[f"{layer}.weight"] = arrays[0]
            norm = re.sub(r"\.(\d+)$", lambda at: f".{int(at[1]) + 1}", layer)
            if f"{layer}.bias" in wanted:
                found[f"{layer}.bias"] = arrays[1]
            elif f"{norm}.running_var" in wanted:
                ones = torch.ones_like(arrays[1])
                found |= {f"{norm}.weight": ones, f"{norm}.bias": arrays[1]}
                found |= {f"{norm}.running_mean": ones * 0, f"{norm}.running_var": ones * (1 - EPS)}
    return found


def _layer(output: str, modality: str) -> str | None:
    """Return the encoder's layer of a node: `/lidar/pyramid/merge/merge.0/Conv_output_0` is of `pyramid.merge.0`."""
    parts = output.strip("/").split("/")[:-1]
    if len(parts) < 2 or parts[0] != modality:
        return None
    kept = [p for p, after in zip(parts[1:], [*parts[2:], ""], strict=True) if not after.startswith(f"{p}.")]
    return ".".join(kept)


def _scales(modality: str) -> tuple[float, ...]:
    """Return factors that the export folded into the pillars' linear layer."""
    return {"lidar": lidar.SCALES, "radar": radar.SCALES}[modality]
