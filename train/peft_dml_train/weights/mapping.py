# SPDX-License-Identifier: Apache-2.0
"""Rules from a file's tensors to an encoder's, and the account of what became of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Tensors = Mapping[str, torch.Tensor]
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class MappingRule:
    """One tensor of the encoder."""

    target: str  #: Its name in the network
    source: str  #: Name in the file
    #: What makes its value of the file's tensors; the file's own tensor without one
    change: Callable[[Tensors], torch.Tensor] | None = None
    note: str = ""  #: What that changes, for the report


@dataclass(slots=True)
class MappingReport:
    """Which tensors of the file filled which of the network."""

    used: list[dict[str, Any]] = field(default_factory=list)  #: Source, target, shape and what was changed on the way
    unused: list[dict[str, Any]] = field(default_factory=list)  #: Tensors of the file with the reason
    missing: list[str] = field(default_factory=list)  #: Tensors of the encoder that the file does not hold
    #: Source, target and their shapes where these differ
    mismatched: list[dict[str, Any]] = field(default_factory=list)
    defaulted: list[str] = field(default_factory=list)  #: Tensors of the encoder that the file may leave out

    @property
    def complete(self) -> bool:
        """Whether every tensor of the encoder was filled."""
        return not self.missing and not self.mismatched


def batch_norm(target: str, source: str) -> list[MappingRule]:
    """Return rules of one batch norm."""
    leaves = ("weight", "bias", "running_mean", "running_var", COUNTER)
    return [MappingRule(f"{target}.{leaf}", f"{source}.{leaf}") for leaf in leaves]


@torch.no_grad()
def fill(
    state: dict[str, torch.Tensor],
    prefix: str,
    tensors: Tensors,
    rules: Sequence[MappingRule],
    reason: Callable[[str], str],
) -> MappingReport:
    """Put a file's tensors into a network's state; return the account, which names every tensor of both.

    Args:
        state: The network's; values are overwritten in place.
        prefix: Of the encoder whose tensors must all be filled.
        tensors: The file's.
        rules: What goes where.
        reason: Why a tensor that no rule names is left.
    """
    account, filled, taken = MappingReport(), set(), set()
    for rule in rules:
        if rule.target not in state or rule.source not in tensors:
            continue
        wanted = state[rule.target]
        taken.add(rule.source)
        filled.add(rule.target)
        source = tensors[rule.source]
        value = rule.change(tensors) if rule.change else source
        where = {"source": rule.source, "target": rule.target}
        if value.shape != wanted.shape:
            account.mismatched.append(where | {"source_shape": list(source.shape), "target_shape": list(wanted.shape)})
            continue
        wanted.copy_(value)
        account.used.append(where | {"shape": list(wanted.shape), "change": rule.note})
    for name in tensors:
        if name not in taken:
            account.unused.append({"source": name, "shape": list(tensors[name].shape), "reason": reason(name)})
    for name in state:
        if name.startswith(prefix) and name not in filled:
            (account.defaulted if name.endswith(COUNTER) else account.missing).append(name)
    return account
