# SPDX-License-Identifier: Apache-2.0
"""Features of pictures below the first trained layer: computed once per picture, then looked up."""

import torch

from peft_dml_train.data.batch import Batch
from peft_dml_train.encoders.camera import CameraEncoder, LitePyramid
from peft_dml_train.encoders.efficientnet import TrunkFeatures


class PictureFeatures:
    """Fills a batch with the camera trunk's frozen features.

    Values are rounded to 16 bit whether they were stored or not, so that a resumed run repeats an unbroken one.

    Args:
        encoder: The camera's; a ResNet, or a trunk that is trained, has nothing to cache.
        most_gb: Features kept at most; pictures beyond are computed each time.
    """

    def __init__(self, encoder: CameraEncoder, most_gb: float) -> None:
        self.encoder, self.most, self.kept_bytes = encoder, int(most_gb * 1e9), 0
        self.kept: dict[int, TrunkFeatures] = {}
        trunk = encoder.image.trunk if isinstance(encoder.image, LitePyramid) else None
        frozen = [*trunk.stem.parameters(), *trunk.frozen.parameters()] if trunk else []
        self.active = trunk is not None and not any(p.requires_grad for p in frozen)

    def fill(self, batch: Batch) -> None:
        """Add `fine` and `cut` to the camera's inputs of a batch."""
        if not self.active:
            return
        feed = batch.feeds["camera"]
        found = [self._of(number, images) for number, images in zip(batch.pictures, feed["images"], strict=True)]
        feed["fine"], feed["cut"] = (torch.stack(level).float() for level in zip(*found, strict=True))

    @torch.no_grad()
    def _of(self, number: int, images: torch.Tensor) -> TrunkFeatures:
        if (kept := self.kept.get(number)) is not None:
            return kept
        early = self.encoder.early(images)
        made = TrunkFeatures(*(level.to(torch.float16) for level in early))
        size = sum(level.numel() * level.element_size() for level in made)
        if number >= 0 and self.kept_bytes + size <= self.most:
            self.kept[number] = made
            self.kept_bytes += size
        return made
