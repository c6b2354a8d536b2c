# SPDX-License-Identifier: Apache-2.0
"""One cell of the evidence: what is trained, on which scenes, and what is evaluated."""

from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Literal

from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_train.evaluation.sensors import SUBSETS, parse_sensors

#: What the second stage trains: low-rank and bottleneck adapters with the small modules, without one of the two,
#: everything, the small modules alone, these and as many of the encoders' last weights as PEFT trains, everything from
#: random weights, nothing; `untrained` skips both stages
Mode = Literal["peft", "no_lora", "no_adapters", "full", "head", "partial", "scratch", "base", "untrained"]

Kind = Literal["any", "city", "other_city", "slow", "fast"]
Measure = Literal["scores", "retrieval", "cost"]

FIRST_SEED = 7
KEY_SEEDS = (7, 8, 9)
#: All 31 subsets of the five sensors
EVERY_SUBSET = tuple("+".join(s) for n in range(1, 6) for s in combinations(MODALITIES, n))

STANDARD = tuple(SUBSETS)
#: Clear air, and the weather that the second stage trains for
TARGET_LOOKS = ("clear", "fog=50", "rain=25", "snow=2.5")

MAIN_SUBSETS = ("all", "no lidar", "no camera")

NO_METRIC = ("losses.alignment=0", "losses.instance=0")


@dataclass(frozen=True, slots=True)
class ScenePick:
    """Some of a split's scenes."""

    split: Literal["train", "finetune", "val", "test"]  #: Of the recipe: train, finetune, val or test
    #: `city` are the scenes of the town that most training scenes come from, `other_city` the rest; `fast` are those
    #: driven at `scenes.FAST_MPS` and more on average, `slow` the rest
    kind: Kind = "any"
    most: int = 0  #: Scenes at most, taken evenly; 0 for all
    domain: str = ""  #: From the folder of this name among the domains; the data themselves without it


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How a network comes about; two cells with the same plan and seed share it."""

    mode: Mode = "peft"  #: What the second stage trains
    base: tuple[str, ...] = ()  #: Overrides of the recipe for both stages, e.g. `losses.alignment=0`.
    adapt: tuple[str, ...] = ()  #: Overrides for the second stage alone
    source: ScenePick = field(default=ScenePick("train"))  #: Scenes of the first stage
    target: ScenePick = field(default=ScenePick("finetune"))  #: Scenes of the second
    fresh: bool = False  #: The second stage keeps the encoders alone; what lies behind them starts fresh


PROPOSED = TrainingPlan()  #: The winning recipe as it stands: everything else is compared with it


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell."""

    command: str  #: Command that it belongs to
    name: str  #: Unique within the command; letters, digits, `_`, `-` and `.`
    about: str  #: A line for the page
    plan: TrainingPlan = PROPOSED  #: What is trained
    subsets: tuple[str, ...] = ("all",)  #: Names of `SUBSETS`, or modalities joined by `+`
    looks: tuple[str, ...] = ("clear",)  #: What is done to the frames, see `frame_conditions.parse_frame_condition`
    test: ScenePick = field(default=ScenePick("test"))  #: Scenes to score
    seeds: tuple[int, ...] = (FIRST_SEED,)  #: The cell is run once for each
    measure: Measure = "scores"  #: Official scores; also retrieval; or costs alone

    def file_name(self, config: str, seed: int) -> str:
        """Return the name of its result file."""
        return f"{self.name}.{config}.s{seed}.json"


def subsets_of(names: tuple[str, ...]) -> dict[str, tuple[Modality, ...]]:
    """Return modalities by subset name; subsets that see nothing are allowed, they find nothing."""

    def one(name: str) -> tuple[Modality, ...]:
        if name in SUBSETS:
            return SUBSETS[name]
        parts = name.split("+")
        blind = all(part in {"imu", "gnss"} for part in parts)
        return tuple(m for m in MODALITIES if m in parts) if blind else parse_sensors(",".join(parts))

    return {name: one(name) for name in names}


def as_tree(cell: Cell) -> dict[str, Any]:
    """Return what makes the cell's result; its wording and its other seeds do not."""
    tree = asdict(cell)
    for name in ("about", "seeds", "command", "name"):
        del tree[name]
    return tree
