# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters on the frozen encoders, by the `peft` library, and what else the fine-tuning trains.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. Adapters are stored in peft's own format and
merge into the weights, so that an adapted network costs the vehicle nothing.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import peft
import torch
from torch import nn

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError, DataError, nearest
from peft_dml_train.config import AdapterConfig
from peft_dml_train.network import PeftDmlNetwork

#: Small modules that the fine-tuning trains as they are; peft stores copies of them with the low-rank matrices
TRAINED_WHOLE = (
    *(f"adapters.{m}" for m in MODALITIES),
    *(f"projections.{m}" for m in MODALITIES),
    "classifier",
    "fusion",
    "head",
)


ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
ADAPTABLE = nn.Conv1d | nn.Conv2d | nn.Linear


def target_names(network: nn.Module, plain: tuple[str, ...] = ()) -> list[str]:
    """Return the encoders' layers that get low-rank adapters: convolutions and linear ones, but those under `plain`.

    Depth-wise convolutions are left out: no exact adapter exists for them, and the point-wise ones around them have
    most of the weights. peft has no adapter for transposed convolutions. Raises ConfigError: a convolution cannot carry
    an exact low-rank adapter.
    """
    found = [(n, m) for n, m in network.named_modules() if n.startswith("encoders.") and isinstance(m, ADAPTABLE)]
    names = [n for n, m in found if not n.startswith(plain or ("\0",)) and not _depthwise(m)]
    refuse_inexact((n, network.get_submodule(n)) for n in names)
    return names


def _depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def refuse_inexact(modules: Iterable[tuple[str, nn.Module]]) -> None:
    """Refuse convolutions whose adapter would not be the layer's own kind.

    peft copies neither dilation nor padding mode into the adapter's convolution, and cannot merge grouped ones. Raises
    ConfigError: names every such layer and the reason.
    """
    wrong = []
    for name, module in modules:
        if not isinstance(module, nn.Conv1d | nn.Conv2d):
            continue
        if any(d != 1 for d in module.dilation):
            wrong.append(f"{name} has dilation {module.dilation}")
        if module.padding_mode != "zeros":
            wrong.append(f"{name} has padding mode '{module.padding_mode}'")
        if module.groups > 1:
            wrong.append(f"{name} has {module.groups} groups")
    if wrong:
        msg = f"no exact low-rank adapter exists for: {'; '.join(wrong)}; fix: leave these layers out of the targets"
        raise ConfigError(msg)


def weights_digest(state: dict[str, torch.Tensor]) -> str:
    """Return sha256 over names and values of a state: the identity of a base network."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def adapt(network: PeftDmlNetwork, config: AdapterConfig, whole: tuple[str, ...] = TRAINED_WHOLE) -> peft.PeftModel:
    """Freeze the network and give it adapters; the network is changed in place and lives on inside the result."""
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=target_names(network, config.plain),
        modules_to_save=list(whole),
    )
    base = _identity(network)
    adapted = peft.get_peft_model(network, settings)
    # Set afterwards: peft itself writes the name of a model hub here.
    adapted.active_peft_config.base_model_name_or_path = base
    return adapted


def train_mode(network: nn.Module, frozen: tuple[str, ...] = ("encoders.",)) -> None:
    """Set training mode, except for norms of frozen parts ("" is all): their statistics belong to the base."""
    network.train()
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and any(f".{part}" in f".{name}" for part in frozen):
            module.eval()


def freeze(network: nn.Module, parts: tuple[str, ...]) -> None:
    """Keep the weights of parts, such as `encoders.lidar.`, as they are. Raises ConfigError: nothing begins so."""
    names = [name for name, _ in network.named_parameters()]
    for part in parts:
        if not any(name.startswith(part) for name in names):
            known = {".".join(name.split(".")[:2]) + "." for name in names}
            raise ConfigError(f"pretrain.frozen: no parameter begins with '{part}'; {nearest(part, known)}")
    for name, parameter in network.named_parameters():
        if name.startswith(parts):
            parameter.requires_grad_(False)  # noqa: FBT003


def merge(adapted: peft.PeftModel) -> PeftDmlNetwork:
    """Return the network with all adapters folded into its weights; computes the same."""
    merged: PeftDmlNetwork = adapted.merge_and_unload()
    return merged.requires_grad_(requires_grad=False)


def save_adapter(adapted: peft.PeftModel, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors."""
    # Whether embeddings were resized is nothing to ask the base's name on a model hub for.
    adapted.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
    # peft adds a model card template that says nothing; the bundle has a real one.
    (folder / "README.md").unlink(missing_ok=True)


def parameter_counts(network: nn.Module) -> dict[str, float]:
    """Return numbers of parameters, and trained shares of all, with and without the small modules."""
    total = trained = low_rank = 0
    for name, parameter in network.named_parameters():
        if "original_module" in name:
            continue
        total += parameter.numel()
        if parameter.requires_grad:
            trained += parameter.numel()
            low_rank += parameter.numel() * ("lora_" in name or ".adapters." in f".{name}")
    return {
        "total": total,
        "trained": trained,
        "trained_low_rank_and_bottleneck": low_rank,
        "trained_projections_fusion_head": trained - low_rank,
        "share": trained / total,
        "share_without_projections_fusion_head": low_rank / total,
    }


def load_adapter(network: PeftDmlNetwork, folder: Path, *, trainable: bool = False) -> peft.PeftModel:
    """Return the base network with a stored adapter put into it.

    Raises DataError: a file is missing, or the adapter belongs to another base.
    """
    if absent := [name for name in ADAPTER_FILES if not (folder / name).is_file()]:
        msg = f"{folder} is no adapter: {' and '.join(absent)} missing; fix: name one of peft-dml-train finetune"
        raise DataError(msg)
    mine = _identity(network)
    wanted = json.loads((folder / ADAPTER_FILES[0]).read_text()).get("base_model_name_or_path")
    if wanted != mine:
        msg = f"adapter {folder} belongs to base {wanted}, this base is {mine}; fix: fine-tune it again on this base"
        raise DataError(msg)
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(network, str(folder), is_trainable=trainable)


def encoder_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the encoders of a state, which are the base network; what follows starts fresh on every target."""
    return {name: value for name, value in state.items() if name.startswith("encoders.")}


def _identity(network: nn.Module) -> str:
    """Return what peft's own field for the base model holds."""
    return f"sha256:{weights_digest(network.state_dict())}"
