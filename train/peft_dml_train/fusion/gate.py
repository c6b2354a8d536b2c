# SPDX-License-Identifier: Apache-2.0
"""The gate: how far each modality is to be trusted, by its embedding, age, completeness and disagreement."""

import torch
from torch import nn
from torch.nn import functional

from peft_dml_ros.core.classes import DETECTING, MODALITIES

ABSENT = -1e4  #: Added to the logit of an absent modality: its softmax weight is exactly 0 in float32 and float16
AGEING = 2.95  #: Before training a modality's logit falls by 3 for each second of its age
RELIABILITY = (1.0, 0.5, 0.5, -1.5, -1.5)
HIDDEN = 16
FEW = 4.0  #: Cells' worth of evidence that makes a frame's shares of agreement count


class Gate(nn.Module):
    """One logit per modality and cell.

    Disagreement is measured in the shared space: the cosine of a sensor's latent to the mean of the others', what it
    alone sees, and what it alone does not see, per cell and over the frame. A radar full of echoes that are none sees
    much that nobody else does.

    Args:
        dim: Channels d of the latents.
        learned: Without it only absence counts.
        compares: Disagreement counts.
    """

    def __init__(self, dim: int, *, learned: bool = True, compares: bool = True) -> None:
        super().__init__()
        self.learned, self.compares = learned, compares
        if not learned:
            return
        self.quality = nn.ModuleDict(
            {m: nn.Conv2d(dim, 1, 1) if m in DETECTING else nn.Linear(dim, 1) for m in MODALITIES}
        )
        self.state = nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, 1))
        # A dark camera shows in the whole map, not in one cell.
        self.overview = nn.ModuleDict({m: _starts_silent(nn.Linear, dim) for m in DETECTING})
        if compares:
            self.agreement = nn.ModuleDict({m: _starts_silent(nn.Linear, 5) for m in DETECTING})
            self.local = nn.ModuleDict({m: _starts_silent(nn.Conv2d, 3) for m in DETECTING})
        # Softplus of it, per second: an older measurement never counts for more.
        self.ageing = nn.Parameter(torch.full((len(MODALITIES),), AGEING))
        self.reliability = nn.Parameter(torch.tensor(RELIABILITY))

    def forward(
        self,
        scaled: dict[str, torch.Tensor],
        mask: torch.Tensor,
        age_s: torch.Tensor,
        completeness: torch.Tensor,
        evidence: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return (B, 5, h, w) logits, very low where a modality is absent.

        Args:
            scaled: Latents of about length sqrt(d), zero where absent: (B, d, h, w) maps, (B, d) tokens.
            mask: (B, 5).
            age_s: (B, 5).
            completeness: (B, 5).
            evidence: (B, 1, H, W) highest class logit of each modality alone, at the maps' resolution or a multiple.
        """
        absent = ((1 - mask) * ABSENT)[:, :, None, None]
        rows, columns = scaled[DETECTING[0]].shape[2:]
        if not self.learned:
            # The exported graph takes all inputs, whatever the fusion makes of them.
            unused = age_s + completeness + _unused(evidence)
            return (absent + 0.0 * unused[:, :, None, None]).expand(-1, -1, rows, columns)
        state = self.state(torch.stack([mask, completeness], dim=-1))[..., 0] + self.reliability
        state = state - functional.softplus(self.ageing) * age_s
        frame, cells = self._agreement(scaled, mask, evidence) if self.compares else ([], [])
        state = state if self.compares else state + 0.0 * _unused(evidence)
        logits = []
        for i, m in enumerate(MODALITIES):
            logit = state[:, i].view(-1, 1, 1, 1) + self.quality[m](scaled[m]).float().view(
                len(mask), 1, *_hw(scaled[m])
            )
            if m in DETECTING:
                whole = self.overview[m](scaled[m].mean(dim=(2, 3))).float()
                if self.compares:
                    whole, logit = whole + self.agreement[m](frame[i]).float(), logit + self.local[m](cells[i]).float()
                logit = logit + whole[:, :, None, None]
            logits.append(logit.expand(-1, -1, rows, columns))
        return torch.cat(logits, dim=1) + absent

    def _agreement(
        self, scaled: dict[str, torch.Tensor], mask: torch.Tensor, evidence: dict[str, torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Compare each sensor with the mean of the others.

        Returns:
            Per detecting modality (B, 5): share that it alone sees, that it alone misses, mean cosine where anyone sees
            something, evidence per cell, whether there is another; and (B, 3, H, W): own evidence, the others',
            cosine.
        """
        here = [mask[:, i].view(-1, 1, 1, 1) for i in range(len(DETECTING))]
        # A maximum over 3 x 3 cells forgives the cell or two by which sensors differ.
        finer = evidence[DETECTING[0]].shape[2] // scaled[DETECTING[0]].shape[2]
        pooled = [functional.max_pool2d(evidence[m].float(), finer) for m in DETECTING]
        seen = [x.sigmoid() * at for x, at in zip(pooled, here, strict=True)]
        wide = [functional.max_pool2d(x, 3, 1, 1) for x in seen]
        every, count = scaled[DETECTING[0]] + scaled[DETECTING[1]] + scaled[DETECTING[2]], sum(here)
        frame, cells = [], []
        for i, m in enumerate(DETECTING):
            others = (count - here[i]).clamp(min=1)
            theirs = (sum(wide) - wide[i]) / others
            rest = every - scaled[m]
            length = (rest.float().square().sum(dim=1, keepdim=True) + 1e-3).rsqrt() * scaled[m].shape[1] ** -0.5
            cosine = (scaled[m] * rest).float().sum(dim=1, keepdim=True) * length
            accompanied = (count - here[i]).clamp(max=1) * here[i]
            alone = _total((seen[i] - theirs).clamp(min=0)) / (FEW + _total(seen[i]))
            missed = _total((theirs - wide[i]).clamp(min=0)) / (FEW + _total(theirs))
            anyone = torch.maximum(seen[i], theirs)
            agreed = _total(cosine * anyone) / (FEW + _total(anyone))
            amount = seen[i].mean(dim=(2, 3)) * 10
            rows = torch.cat([alone, missed, agreed, amount, torch.ones_like(amount)], dim=1)
            frame.append(rows * accompanied.flatten(1))
            cells.append(torch.cat([seen[i], theirs, cosine], dim=1) * accompanied)
        return frame, cells


def _unused(evidence: dict[str, torch.Tensor]) -> torch.Tensor:
    """Reduce what is seen to (B, 1): the exported graph takes it, even where nothing is made of it."""
    total: torch.Tensor = sum(seen.mean(dim=(1, 2, 3))[:, None] for seen in evidence.values())  # type: ignore[assignment]
    return total


def _hw(x: torch.Tensor) -> tuple[int, int]:
    return (int(x.shape[2]), int(x.shape[3])) if x.dim() == 4 else (1, 1)


def _total(x: torch.Tensor) -> torch.Tensor:
    """Sum (B, 1, H, W) to (B, 1)."""
    return x.sum(dim=(2, 3))


def _starts_silent(layer: type[nn.Linear | nn.Conv2d], width: int) -> nn.Sequential:
    """Build two layers to what is added to a logit; nothing before training."""

    def make(inner: int, outer: int) -> nn.Linear | nn.Conv2d:
        return nn.Linear(inner, outer) if layer is nn.Linear else nn.Conv2d(inner, outer, 1)

    layers = nn.Sequential(make(width, HIDDEN), nn.ReLU(inplace=True), make(HIDDEN, 1))
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
    return layers
