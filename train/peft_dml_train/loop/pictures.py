# SPDX-License-Identifier: Apache-2.0
"""Features of pictures below the first trained layer: computed once per picture, then looked up."""

import hashlib
from functools import cached_property
from typing import cast

import torch

from peft_dml_train.data.batch import Batch
from peft_dml_train.data.cache import DIGITS, FrameCache
from peft_dml_train.data.digest import digest
from peft_dml_train.encoders.camera import CameraEncoder, LitePyramid
from peft_dml_train.encoders.efficientnet import LiteTrunk, TrunkFeatures


class PictureFeatures:
    """Fills a batch with the camera trunk's frozen features.

    Values are rounded to 16 bit whether they were stored or not, so that a resumed run repeats an unbroken one.

    Args:
        encoder: The camera's; a ResNet, or a trunk that is trained, has nothing to cache.
        most_gb: Features kept in memory at most; pictures beyond are computed each time, or read from the cache.
        cache: Keeps features on disk for all runs with the same frozen weights, by the pictures' content.
    """

    def __init__(self, encoder: CameraEncoder, most_gb: float, cache: FrameCache | None = None) -> None:
        self.most, self.kept_bytes, self.cache = int(most_gb * 1e9), 0, cache
        self.kept: dict[int, TrunkFeatures] = {}
        self._trunk = encoder.image.trunk if isinstance(encoder.image, LitePyramid) else None
        frozen = [*self._trunk.stem.parameters(), *self._trunk.frozen.parameters()] if self._trunk else []
        self.active = self._trunk is not None and not any(p.requires_grad for p in frozen)

    def fill(self, batch: Batch) -> None:
        """Add `fine` and `cut` to the camera's inputs of a batch."""
        if not self.active:
            return
        feed = batch.feeds["camera"]
        found = [self._of(number, images) for number, images in zip(batch.pictures, feed["images"], strict=True)]
        feed["fine"], feed["cut"] = (torch.stack(level).float() for level in zip(*found, strict=True))

    @cached_property
    def _frozen(self) -> tuple[LiteTrunk, str]:
        """Folded once, when the weights are there, and what tells them from others."""
        folded, seen = cast("LiteTrunk", self._trunk).folded(), hashlib.sha256()
        for value in folded.state_dict().values():
            seen.update(value.cpu().contiguous().numpy().tobytes())
        return folded, seen.hexdigest()

    def _of(self, number: int, images: torch.Tensor) -> TrunkFeatures:
        if (kept := self.kept.get(number)) is not None:
            return kept
        made = self._computed(images) if number < 0 or self.cache is None else self._stored(images, self.cache)
        size = sum(level.numel() * level.element_size() for level in made)
        if number >= 0 and self.kept_bytes + size <= self.most:
            self.kept[number] = made
            self.kept_bytes += size
        return made

    @torch.no_grad()
    def _computed(self, images: torch.Tensor) -> TrunkFeatures:
        return TrunkFeatures(*(level.to(torch.float16) for level in self._frozen[0].early(images)))

    def _stored(self, images: torch.Tensor, cache: FrameCache) -> TrunkFeatures:
        content = hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest()
        key = digest((self._frozen[1], content, list(images.shape)), DIGITS)
        found = cache.arrays(key, lambda: {n: v.cpu().numpy() for n, v in self._computed(images)._asdict().items()})
        return TrunkFeatures(**{name: torch.from_numpy(value).to(images.device) for name, value in found.items()})
