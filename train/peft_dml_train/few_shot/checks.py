# SPDX-License-Identifier: Apache-2.0
"""Which step of a training is the best. Each half of the frames held out chooses for itself, and the other one judges.

The best of ten steps is partly luck. Cross-fitting takes it out: no frame counts in the gain of a step that it chose.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from peft_dml_ros.core.errors import ConfigError
from peft_dml_train.few_shot.gain import FrameHits, accuracy
from peft_dml_train.loop.checkpoint import load_checkpoint, save_checkpoint
from peft_dml_train.network import PeftDmlNetwork

log = logging.getLogger(__name__)
JUDGED: Final = "each half of the frames held out judged by the step that the other half chose"
Found = Callable[[int, slice], Sequence[FrameHits]]
"""What a step finds in a part of the frames held out."""


def choose(scores: Sequence[float], patience: int) -> tuple[int, bool]:
    """Return the place of the best score, and whether the search is over: `patience` scores after it are no better.

    The first score is the one before training. What follows the end does not count, so that a choice never depends on
    how long others made the training go on.
    """
    best = 0
    for place, score in enumerate(scores):
        if score > scores[best]:
            best = place
        elif place - best >= patience:
            return best, True
    return best, False


def half_scores(hits: Sequence[FrameHits], cut: int) -> tuple[float, ...]:
    """Return NDS of all frames held out, of their first half, and of their second one, which begins at `cut`."""
    return tuple(accuracy(part).nds for part in (hits, hits[:cut], hits[cut:]))


def cross_judged(found: Found, first: int, second: int, cut: int) -> list[FrameHits]:
    """Return what is found in each half with the step that the other half chose; see `half_scores`."""
    return [*found(second, slice(cut)), *found(first, slice(cut, None))]


class Checks:
    """The weights and scores of all checks of a training, on disk: an interrupted one finds them again.

    Args:
        folder: One file a check.
        identity: Of frames and settings; a folder of others raises a ConfigError.
        start: `half_scores` before training.
        patience: See `choose`.
    """

    def __init__(self, folder: Path, identity: str, start: Sequence[float], patience: int) -> None:
        self._folder, self._identity, self._patience, self._scores = folder, identity, patience, {0: tuple(start)}
        for path in sorted(folder.glob("*.pt"), key=lambda path: int(path.stem)):
            kept = load_checkpoint(path)
            if kept["identity"] != identity:
                raise ConfigError(f"{folder} is of other frames or settings; fix: remove it, or leave --resume out")
            self._scores[kept["step"]] = tuple(kept["scores"])

    @property
    def chosen(self) -> tuple[int, int, int]:
        """Best step by all frames held out, by their first half and by their second; 0 where none was better."""
        whole, first, second = (list(self._scores)[place] for place, _ in self._choices())
        return whole, first, second

    @property
    def over(self) -> bool:
        """Whether all three searches are."""
        return all(over for _, over in self._choices())

    def add(self, network: PeftDmlNetwork, step: int, scores: Sequence[float]) -> None:
        """Keep the weights of a step, and say how good they are."""
        self._scores[step] = tuple(scores)
        state = {"network": network.state_dict(), "scores": list(scores), "step": step, "identity": self._identity}
        save_checkpoint(self._folder / f"{step}.pt", state)
        words = "step %d: NDS on frames held out %.3f, on their halves %.3f and %.3f; best by each: steps %d, %d and %d"
        log.info(words, step, *scores, *self.chosen)

    def restore(self, network: PeftDmlNetwork, step: int) -> None:
        """Put the weights of a step back into a network."""
        network.load_state_dict(load_checkpoint(self._folder / f"{step}.pt")["network"])

    def _choices(self) -> list[tuple[int, bool]]:
        return [choose(scores, self._patience) for scores in zip(*self._scores.values(), strict=True)]
