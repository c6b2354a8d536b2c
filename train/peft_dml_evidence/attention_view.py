# SPDX-License-Identifier: Apache-2.0
"""What the attention of a bundle's network looks at."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.typing import AnyArray
from peft_dml_train.adapters.base_weights import load_base_state
from peft_dml_train.adapters.lora import load_adapter, merge
from peft_dml_train.config import stored_config
from peft_dml_train.data.batch import collate
from peft_dml_train.data.frame import Frame
from peft_dml_train.fusion.attention import ASTRAY, COARSE
from peft_dml_train.loop.stages import new_network
from peft_dml_train.network import PeftDmlNetwork


def network_of(folder: Path) -> PeftDmlNetwork:
    """Return the network of a bundle with its default adapter merged."""
    bundle = load_bundle(folder)
    network = new_network(stored_config(bundle.manifest.provenance["config"], bundle.spec))
    network.load_state_dict(load_base_state(folder))
    return merge(load_adapter(network, bundle.adapters.parts[0][0].path)).eval()


@torch.inference_mode()
def neighbour_weights(network: PeftDmlNetwork, frame: Frame) -> tuple[AnyArray, AnyArray]:
    """Return the cameras' attention (9, h, w), mean over heads, and the gates (5, H, W), with LiDAR and cameras."""
    batch = collate([frame], network.spec)
    latents = network.encode_all(batch.feeds).by_modality
    mask = batch.mask * torch.tensor([float(m in {"lidar", "camera"}) for m in MODALITIES])
    gates = network.detect(latents, mask, batch.age_s * mask, batch.completeness * mask).fused.gates
    fusion: Any = network.fusion
    coarse = {m: functional.avg_pool2d(latents[m] * fusion.scale, COARSE) for m in ("lidar", "camera")}
    near, mean = fusion.near, (coarse["lidar"] + coarse["camera"]) / 2
    keys = functional.pad(near.key(coarse[ASTRAY[0]]), (1, 1, 1, 1))
    return near.weights(near.query(mean), keys).mean(dim=2)[:, 0].numpy(), gates[0].numpy()
