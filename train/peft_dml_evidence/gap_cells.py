# SPDX-License-Identifier: Apache-2.0
"""Cells of the gaps: a network before and after adapting to scenes that differ from its own, by what is trained."""

from dataclasses import dataclass
from typing import Final

from peft_dml_evidence.cells import KEY_SEEDS, Cell, Kind, Mode, ScenePick, TrainingPlan

FEW_SCENES: Final = (2, 8, 32, 0)  #: Scenes to adapt with; 0 for all
TRIED: Final[tuple[Mode, ...]] = ("peft", "full", "head", "partial", "scratch")
FORGETTING: Final[tuple[Mode, ...]] = ("peft", "full", "head", "partial")  #: What is scored on the source as well

#: Learning rate of a way, where it is not the recipe's: the best of those tried for it on other scenes, in fog
RATES: Final[dict[Mode, float]] = {"full": 3e-4}

WORDS: Final[dict[str, str]] = {
    "base": "not adapted",
    "peft": "PEFT",
    "full": "full fine-tuning",
    "head": "projections, fusion and head only",
    "partial": "these and the encoders' last weights, as many as PEFT's",
    "scratch": "from scratch",
}


@dataclass(frozen=True, slots=True)
class DomainGap:
    """A way in which the target's scenes differ from the source's."""

    name: str  #: Of its cells, and of its folder among the domains
    about: str  #: In words
    source: Kind = "any"  #: Kind of the main scenes that the base is trained on; all of them but for `city` and `fast`
    #: Kind of the main scenes that are the target; empty where the target lies in a folder of its own
    kind: Kind | None = None
    weather: str = ""  #: The main scenes in this weather are the target

    @property
    def look(self) -> str:
        """How the target's frames look."""
        return self.weather or "clear"

    def pick(self, split: str, most: int = 0) -> ScenePick:
        """Return scenes of the target."""
        own = self.kind is None and not self.weather
        return ScenePick(split, self.kind or "any", most, self.name if own else "")  # type: ignore[arg-type]

    def cell(self, mode: Mode, few: int = 0) -> str:
        """Return the name of a cell; `few` of 0 is all scenes."""
        return f"{self.name}_none" if mode == "base" else f"{self.name}_{mode}_{few or 'all'}"

    def on_source(self, mode: Mode) -> str:
        """Return the name of the cell that scores the network of all scenes on the source."""
        return f"{self.cell(mode)}_source"


#: The first five lie in folders of their own, the last three are parts of the main data
GAPS: Final = (
    DomainGap("rig", "another rig: a van, with a Pandar40P and wider cameras"),
    DomainGap("beams", "other beams: 8 instead of 32, 2.4 m up"),
    DomainGap("streets", "other streets, traffic on the other side"),
    DomainGap("fog", "fog, 40 m of sight"),
    DomainGap("rain", "heavy rain, 60 mm/h"),
    DomainGap("showers", "rain of 40 mm/h on the source's own scenes", weather="rain=40"),
    DomainGap("fast", "fast motion", "slow", "fast"),
    DomainGap("city", "another town", "city", "other_city"),
)


def domains() -> list[Cell]:
    """Return cells before and after adapting, by what is trained and with how many scenes, and what is forgotten."""
    return [cell for gap in GAPS for cell in _cells(gap)]


def _cells(gap: DomainGap) -> list[Cell]:
    source, looks = ScenePick("train", gap.source), (gap.look,)
    # One thing changes at a time: no other weather than the gap's.
    adapt = (f"finetune.weather=[{gap.weather}]",)

    def cell(mode: Mode, few: int = 0, *, on_source: bool = False) -> Cell:
        plan = TrainingPlan(mode, source=source)
        words = f"{gap.about}: {WORDS[mode]}"
        if mode != "base":
            rate = (f"finetune.rate={RATES[mode]}",) if mode in RATES else ()
            plan = TrainingPlan(mode, adapt=(*adapt, *rate), source=source, target=gap.pick("finetune", few))
            words += f", {few or 'all'} scenes"
        if on_source:
            test = ScenePick("test", gap.source)
            return Cell("domains", gap.on_source(mode), f"{words}, on the source", plan, test=test, seeds=KEY_SEEDS)
        return Cell("domains", gap.cell(mode, few), words, plan, ("all",), looks, gap.pick("test"), KEY_SEEDS)

    return [
        cell("base"),
        *(cell(mode, few) for few in reversed(FEW_SCENES) for mode in TRIED),
        cell("base", on_source=True),
        *(cell(mode, on_source=True) for mode in FORGETTING),
    ]
