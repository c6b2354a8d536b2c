# SPDX-License-Identifier: Apache-2.0
"""A local ResNet, by torchvision's or Hugging Face's names, into the camera encoder's backbone.

Public ResNets expect RGB less ImageNet's means, each channel by its own deviation; the encoder takes (RGB - 114) / 58.
The difference folds into the first convolution and its batch norm, exactly but for the picture's outermost pixels,
where the padding is grey instead of ImageNet's mean colour.
"""

import torch

from peft_dml_ros.core.errors import DataError
from peft_dml_train.config import CameraConfig
from peft_dml_train.encoders.camera import MEAN, SCALE
from peft_dml_train.weights.mapping import MappingRule, Tensors, batch_norm

TARGET = "encoders.camera.image.backbone."
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def reason(name: str) -> str:
    """Return why a tensor of the file is left."""
    return "classifier of ImageNet" if name.startswith(("fc.", "classifier.")) else "no counterpart"


def resnet_rules(tensors: Tensors, config: CameraConfig) -> list[MappingRule]:
    """Return what goes where. Raises DataError: the names are of no known project."""
    if "conv1.weight" in tensors:
        return _torchvision(config)
    for prefix in ("resnet.", ""):
        if f"{prefix}embedder.embedder.convolution.weight" in tensors:
            return _hugging_face(tensors, prefix)
    msg = "no ResNet: neither conv1.weight (torchvision) nor embedder.embedder.convolution.weight (Hugging Face) in it"
    raise DataError(f"{msg}; fix: take one of these; it begins with {', '.join(list(tensors)[:3])}")


def _stem(convolution: str, norm: str) -> list[MappingRule]:
    into = f"{TARGET}embedder.embedder."
    return [
        MappingRule(
            f"{into}convolution.weight",
            f"{convolution}.weight",
            lambda t: _fold(t[f"{convolution}.weight"])[0],
            "pixel scale folded in",
        ),
        *(r for r in batch_norm(f"{into}normalization", norm) if not r.target.endswith("running_mean")),
        MappingRule(
            f"{into}normalization.running_mean",
            f"{norm}.running_mean",
            lambda t: t[f"{norm}.running_mean"] - _fold(t[f"{convolution}.weight"])[1],
            "pixel mean folded in",
        ),
    ]


def _fold(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (O, 3, k, k) first convolution to our pixels, and the constant (O,) that is left over."""
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) * 255 for v in (IMAGENET_MEAN, IMAGENET_STD))
    w = weight.double() / std
    return (w / SCALE).to(weight.dtype), (w * (MEAN - mean)).sum((1, 2, 3)).to(weight.dtype)


def _hugging_face(tensors: Tensors, prefix: str) -> list[MappingRule]:
    stem = f"{prefix}embedder.embedder."
    names = [n for n in tensors if n.startswith(f"{prefix}encoder.")]
    return [
        *_stem(f"{stem}convolution", f"{stem}normalization"),
        *(MappingRule(TARGET + name.removeprefix(prefix), name) for name in names),
    ]


def _torchvision(config: CameraConfig) -> list[MappingRule]:
    rules = _stem("conv1", "bn1")
    convolutions = 3 if config.layer == "bottleneck" else 2
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            source, target = f"layer{stage + 1}.{block}.", f"{TARGET}encoder.stages.{stage}.layers.{block}."
            for i in range(convolutions):
                rules.append(MappingRule(f"{target}layer.{i}.convolution.weight", f"{source}conv{i + 1}.weight"))
                rules += batch_norm(f"{target}layer.{i}.normalization", f"{source}bn{i + 1}")
            rules.append(MappingRule(f"{target}shortcut.convolution.weight", f"{source}downsample.0.weight"))
            rules += batch_norm(f"{target}shortcut.normalization", f"{source}downsample.1")
    return rules
