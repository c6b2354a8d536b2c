# SPDX-License-Identifier: Apache-2.0
"""A public CenterPoint-pillar checkpoint, by det3d's or mmdet3d's names, into the LiDAR encoder.

The public network sees points in the LiDAR's axes (x right, y ahead, z up from the sensor), intensities of 0 to 255;
the encoder sees them in `base_link`, intensities of 0 to 1, each feature scaled. All of that is linear, so that it
folds into the first layer and its batch norm. Empty rows of a public pillar hold zeros and take part in the maximum:
the level that they give goes to `PillarMap.floor`. The encoder turns the map itself.
"""

import re

import torch

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_train.config import BevConfig
from peft_dml_train.encoders.blocks import EPS
from peft_dml_train.encoders.lidar import SCALES
from peft_dml_train.weights.mapping import MappingRule, Tensors, batch_norm

TARGET = "encoders.lidar."
#: Mounting of nuScenes' LIDAR_TOP in `base_link`; it is turned by -90 degrees about z
LIDAR_X_M, LIDAR_Z_M = 0.943713, 1.84023

PILLAR_MIDDLE_Z_M = -1.0  #: Middle of the public pillars, -5 to 3 m, in the LiDAR's frame
STYLES = {"mmdet3d": ("pts_voxel_encoder.", "pts_backbone.", "pts_neck."), "det3d": ("reader.", "neck.", "neck.")}
REASONS = {
    r"(pts_)?bbox_head\.": "detection head: this network has its own, behind the fusion",
    r"(img_|pts_middle)": "not part of the LiDAR encoder",
}


def style_of(tensors: Tensors) -> str:
    """Return `det3d` or `mmdet3d`, by the names. Raises DataError: neither."""
    for style, (points, backbone, _) in STYLES.items():
        if f"{points}pfn_layers.0.linear.weight" in tensors and any(
            k.startswith(f"{backbone}blocks.") for k in tensors
        ):
            return style
    wanted = " or ".join(f"{points}pfn_layers.0.linear.weight" for points, _, _ in STYLES.values())
    msg = f"no CenterPoint-pillar checkpoint: no {wanted} but {', '.join(list(tensors)[:3])}"
    raise DataError(f"{msg}; fix: take one of det3d or mmdet3d")


def reason(name: str) -> str:
    """Return why a tensor of the checkpoint is left."""
    return next((text for pattern, text in REASONS.items() if re.match(pattern, name)), "no counterpart")


def pillar_rules(tensors: Tensors, config: BevConfig) -> list[MappingRule]:
    """Return what goes where.

    Raises DataError: the names are of no known project; ConfigError: the recipe's encoder is of another kind than the
    checkpoint's.
    """
    style = style_of(tensors)
    points, backbone, neck = STYLES[style]
    layers = sum(re.fullmatch(rf"{points}pfn_layers\.\d+\.linear\.weight", name) is not None for name in tensors)
    hidden = tensors[f"{points}pfn_layers.0.linear.weight"].shape[0] if layers > 1 else 0
    if config.body != "second":
        msg = "network.lidar.body is 'pyramid'"
        raise ConfigError(f"{msg}; fix: for public weights take 'second', as in train/configs/nuscenes.yaml")
    if config.pillar_hidden != hidden:
        msg = f"the checkpoint has {layers} pillar layers"
        raise ConfigError(f"{msg}; fix: give --set network.lidar.pillar_hidden={hidden}")
    rules = _pillar_layers(f"{points}pfn_layers.", hidden)
    # det3d pads in a layer of its own, so that its convolutions are numbered one higher.
    first = 1 if style == "det3d" else 0
    for i, depth in enumerate(config.depths):
        for j in range(depth + 1):
            source, target = f"{backbone}blocks.{i}.{3 * j + first}", f"{TARGET}pyramid.levels.{i}.{j}"
            rules.append(MappingRule(f"{target}.0.weight", f"{source}.weight"))
            rules += batch_norm(f"{target}.1", f"{backbone}blocks.{i}.{3 * j + first + 1}")
        source, target = f"{neck}deblocks.{i}", f"{TARGET}pyramid.ups.{i}"
        rules.append(_neck_rule(tensors, f"{source}.0.weight", f"{target}.0.weight", style))
        rules += batch_norm(f"{target}.1", f"{source}.1")
    return rules


def _neck_rule(tensors: Tensors, source: str, target: str, style: str) -> MappingRule:
    weight = tensors.get(source)
    if style == "mmdet3d" and weight is not None and weight.shape[2:] == (1, 1):
        # mmdet3d takes a transposed convolution even where nothing is enlarged: inputs and outputs are exchanged.
        return MappingRule(target, source, lambda t: t[source].transpose(0, 1), "transposed convolution to convolution")
    return MappingRule(target, source)


def _pillar_layers(source: str, hidden: int) -> list[MappingRule]:
    linear, norm = f"{source}0.linear.weight", f"{source}0.norm"
    into = f"{TARGET}pillars."
    first = (f"{into}first.0.weight", f"{into}first.1") if hidden else (f"{into}linear.weight", f"{into}norm")
    rules = [
        MappingRule(first[0], linear, lambda t: _fold(t[linear])[0], "axes, intensity and scales folded in"),
        *(rule for rule in batch_norm(first[1], norm) if not rule.target.endswith("running_mean")),
        MappingRule(
            f"{first[1]}.running_mean",
            f"{norm}.running_mean",
            lambda t: t[f"{norm}.running_mean"] - _fold(t[linear])[1],
            "the LiDAR's place folded in",
        ),
    ]
    if hidden:
        return [
            *rules,
            MappingRule(f"{into}linear.weight", f"{source}1.linear.weight"),
            *batch_norm(f"{into}norm", f"{source}1.norm"),
            # With two layers an empty row's value depends on its pillar: no level per channel stands for it.
            MappingRule(
                f"{into}floor", f"{source}1.norm.bias", lambda t: torch.zeros_like(t[f"{source}1.norm.bias"]), "zero"
            ),
        ]
    return [*rules, MappingRule(f"{into}floor", f"{norm}.bias", lambda t: _floor(t, norm), "value of an empty row")]


def _floor(tensors: Tensors, norm: str) -> torch.Tensor:
    weight, bias, mean, var = (tensors[f"{norm}.{k}"] for k in ("weight", "bias", "running_mean", "running_var"))
    return (bias - mean * weight / (var + EPS).sqrt()).clamp_min(0)


def _fold(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the public network's first layer to our features, (C, 10), and the constant that is left over, (C,).

    Raises DataError: another number of features.

    Args:
        weight: (C, 10) for x, y, z, intensity, age, offsets from the mean x, y, z and from the centre x, y; (C, 11)
            with the offset from the centre in z.
    """
    if weight.shape[1] not in {10, 11}:
        msg = f"the first pillar layer takes {weight.shape[1]} features; fix: take one with 10 (det3d) or 11 (mmdet3d)"
        raise DataError(msg)
    w = weight.double().unbind(1)
    above = w[10] if len(w) == 11 else torch.zeros_like(w[0])
    # x_lidar = -y_base, y_lidar = x_base - LIDAR_X_M.
    encoder_weight = torch.stack([w[1], -w[0], w[2] + above, 255 * w[3], w[4], w[6], -w[5], w[7], w[9], -w[8]], dim=1)
    constant = -LIDAR_X_M * w[1] - LIDAR_Z_M * (w[2] + above) - PILLAR_MIDDLE_Z_M * above
    return (encoder_weight / torch.tensor(SCALES, dtype=torch.float64)).to(weight.dtype), constant.to(weight.dtype)
