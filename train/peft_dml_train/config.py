# SPDX-License-Identifier: Apache-2.0
"""All settings of a training run: read from YAML, checked, and written next to each checkpoint."""

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.spec import ModelSpec


class Section(BaseModel):
    """Base of all sections: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BevConfig(Section):
    """Widths of a bird's-eye-view encoder."""

    body: Literal["pyramid", "second"] = Field(
        "pyramid", description="second, for LiDAR only: the layer shapes of the public CenterPoint-pillar network"
    )
    pillar: int = Field(32, description="Channels of a pillar's feature")
    pillar_hidden: int = Field(0, ge=0, description="Channels of a first layer on the points; 0 for none")
    widths: tuple[int, ...] = Field((32, 64, 128, 176), description="Channels at 1, 1/2, 1/4, 1/8 of the grid")
    depths: tuple[int, ...] = Field((0, 1, 1, 2), description="Blocks at these levels, after the one that leads there")
    neck: int = 64
    out: int = 32


class CameraConfig(Section):
    """Widths of the image backbone, the lift and the map encoder behind it."""

    backbone: Literal["efficientnet_lite0", "resnet"] = "efficientnet_lite0"
    weights: Literal["imagenet", "random"] = Field(
        "imagenet", description="Of efficientnet_lite0; a ResNet's come by `peft-dml-train import-weights`"
    )
    layer: Literal["basic", "bottleneck"] = Field("basic", description="Residual blocks of ResNet-18 or of ResNet-50")
    stem: int = Field(24, description="Of the ResNet, like widths and depths")
    widths: tuple[int, int, int, int] = (32, 64, 128, 160)
    depths: tuple[int, int, int, int] = (1, 2, 2, 2)
    neck: int = 64
    context: int = Field(32, description="Channels lifted into the voxels")
    bev: BevConfig = BevConfig(pillar=0, widths=(32, 64, 96), depths=(0, 1, 1), neck=48, out=32)


class NetworkConfig(Section):
    """Sizes of the network."""

    lidar: BevConfig = BevConfig(pillar_hidden=16)
    camera: CameraConfig = CameraConfig()
    radar: BevConfig = BevConfig(pillar=24, widths=(16, 32, 64), depths=(0, 1, 1), neck=32, out=32)
    motion_width: int = 48
    level_features: bool = Field(
        default=False,
        description="Scale each cell's features to one length before the projection: a few large ones then set no mean",
    )
    attention_heads: int = 4
    fusion: Literal["gated_attention", "attention", "gate", "average", "concatenate"] = Field(
        "gated_attention", description="The others are for comparison: one half of this one, UniBEV's, BEVFusion's"
    )
    neighbourhood: bool = Field(
        default=True, description="Camera and radar are looked up in the 3 x 3 cells around each cell"
    )
    disagreement: bool = Field(default=True, description="The gate compares each sensor with what the others see")
    gated_concatenation: bool = Field(default=False, description="Each sensor's own weights on what the gate lets by")
    head_width: int = 48
    box_width: int = Field(64, description="Hidden units of the boxes' regression")


class AdapterConfig(Section):
    """Low-rank and bottleneck adapters of the fine-tuning."""

    rank: int = Field(8, gt=0)
    alpha: int = Field(16, gt=0)
    bottleneck: int = Field(8, gt=0)
    plain: tuple[str, ...] = Field(
        (
            "encoders.camera.image.trunk.stem",
            "encoders.camera.image.trunk.frozen",
            "encoders.lidar.pillars",
            "encoders.lidar.reduce",
            "encoders.lidar.pyramid.levels.0",
            "encoders.radar.pillars",
            "encoders.radar.pyramid.levels.0",
        ),
        description="Parts without low-rank adapters: the finest stages, which take longest, need no backward pass",
    )


class LossConfig(Section):
    """Weights of the losses; a loss of weight 0 is not computed."""

    heatmap: float = 1.0
    box: float = 1.0
    heading: float = Field(1.0, description="Which of the axis' two ends is the front")
    moving: float = Field(3.0, gt=0, description="Factor on the velocity errors of what moves")
    variance: float = 0.05
    attribute: float = 0.1
    alignment: float = Field(0.3, description="Objects of a class lie together, whatever sensor saw them")
    alignment_margin: float = 0.3
    instance: float = Field(0.3, description="An object seen by two sensors is nearer to itself than to its like")
    instance_margin: float = 0.1
    concentration: float = Field(0.0, ge=0, description="Against one cone in which all classes lie")
    metric: Literal["triplet", "contrastive"] = Field(
        "contrastive",
        description="Batch-hard triplets, which collapse where they weigh much, or supervised contrast, which does not",
    )
    temperature: float = Field(0.1, gt=0, description="Of the contrast")
    memory: int = Field(1024, ge=0, description="Embeddings of earlier steps that the contrast sees as well")
    consistency: float = Field(0.5, description="Heat map with sensors dropped towards the one with all of them")
    consistency_every: int = Field(4, gt=0, description="Steps that pass both; in the others each sample passes once")
    gate: float = 0.4
    depth: float = 0.3
    single: float = Field(0.3, description="Heat map from each modality alone, by the shared classifier")
    code: tuple[float, ...] = Field(
        (2, 2, 1, 1, 1, 1, 1.5, 1.5, 0, 0, 0.5, 0.5),
        description="dx, dy, z, log l, log w, log h, sin 2θ, cos 2θ, heading (a loss of its own), vx, vy",
    )

    def compares(self, step: int) -> bool:
        """Return whether a step passes every sample twice: with all sensors, and with some dropped."""
        return self.consistency > 0 and step % self.consistency_every == 0


class DropoutConfig(Section):
    """Modality dropout and corruption, drawn per sample."""

    lidar: float = 0.5
    camera: float = 0.5
    radar: float = 0.3
    imu: float = 0.3
    gnss: float = 0.3
    whole: float = Field(0.5, description="Share of samples with all sensors, where each is passed through once only")
    single_camera: float = 0.1
    sweep: float = Field(0.25, description="LiDAR, radar, IMU and GNSS each have only the newest part of their history")
    stale: float = Field(0.15, description="One modality's age is raised by up to `stale_s`, its quality lowered")
    stale_s: float = 0.6
    corruption: float = 0.3
    degraded_portion: float = Field(
        0.25,
        ge=0,
        description="Share of the frames held once more in weather or corrupted; drawn half as often as `corruption`",
    )
    late_s: float = Field(0.08, description="Ages are raised by up to this: live streams are older than keyframes")


class StageConfig(Section):
    """One stage of training."""

    steps: int = Field(3000, gt=0)
    minutes: float | None = Field(
        None, gt=0, description="Ends the stage earlier, for a machine lent by the minute; then no run repeats another"
    )
    batch: int = Field(4, gt=0, description="Samples of one step in each process")
    rate: float = Field(2e-3, gt=0, description="Peak learning rate of the one-cycle schedule")
    weight_decay: float = 0.01
    clip: float = 10.0
    ema: float = Field(0.998, ge=0, lt=1)
    warm_up: float = Field(0.1, description="Share of the schedule in which the rate rises")
    checkpoint_every: int = 200
    ramp: float = Field(0.2, ge=0, description="Share of the steps over which dropout and corruption rise from 0")
    flip: bool = True
    turn: float = Field(0.7, description="Share of samples that are turned, tilted and scaled")
    turn_deg: float = Field(180.0, description="Largest turn about the vehicle")
    tilt_deg: float = Field(1.5, description="Largest pitch and roll")
    rise_m: float = Field(0.3, description="Largest change of height")
    scale: float = Field(0.04, description="Largest change of scale")
    intensity: float = Field(0.3, description="Share of samples with another gain and offset of the LiDAR's intensity")
    beams: float = Field(0.2, description="Share of samples that lose every second, or some, of the LiDAR's beams")
    paste: float = Field(0.1, description="Share of samples with pasted objects; these have no camera")
    pasted: int = Field(8, gt=0, description="Objects that are tried in such a sample")
    balance: float = Field(0.5, ge=0, le=1, description="0: every frame as often; 1: every class as often")
    frozen: tuple[str, ...] = Field((), description="Parts that keep the weights given by --from")
    weather: tuple[str, ...] = Field(
        (), description="Each frame is seen in one of these, weather or corruptions, e.g. [clear, rain=25, dark/2]"
    )


class SplitConfig(Section):
    """Scenes by name prefix or exact name: training, validation (calibration) and test never share one."""

    train: tuple[str, ...] = ("sim_train",)
    finetune: tuple[str, ...] = ("sim_train",)
    val: tuple[str, ...] = ("sim_val",)
    test: tuple[str, ...] = ("sim_test",)


class TrainConfig(Section):
    """A whole recipe."""

    name: str = "demo"
    seed: int = 7
    threads: int = Field(1, gt=0, description="Threads of one operator")
    processes: int = Field(1, gt=0, description="Processes that train together, each on its share of the scenes")
    workers: int = Field(0, ge=0, description="Processes that prepare frames and make batches; 0: a thread does")
    bfloat16: bool = True
    features_gb: float = Field(3.0, ge=0, description="Memory for cached features of pictures below the trained layers")
    spec: ModelSpec = ModelSpec()
    network: NetworkConfig = NetworkConfig()
    adapters: AdapterConfig = AdapterConfig()
    losses: LossConfig = LossConfig()
    dropout: DropoutConfig = DropoutConfig()
    pretrain: StageConfig = StageConfig()
    finetune: StageConfig = StageConfig(rate=1e-3, steps=1000, ramp=0)
    splits: SplitConfig = SplitConfig()
    sensors: tuple[str, ...] = Field(MODALITIES, description="Modalities that training sees at all")
    withheld: tuple[str, ...] = Field(
        (),
        description="Pairs never trained together, e.g. [radar:truck]: frames with the class lose the modality; "
        "with [radar:truck:unlabelled] they keep it, and nothing that knows classes or boxes teaches it about them",
    )


#: Keys of earlier releases, as bundles hold them, and what they are called now
EARLIER_KEYS = {"harmed_portion": "degraded_portion"}


def stored_config(tree: dict[str, Any], spec: ModelSpec) -> TrainConfig:
    """Return the recipe that a bundle holds, also one of an earlier release. Raises ValidationError: another one's."""
    dropout = {EARLIER_KEYS.get(name, name): value for name, value in tree.get("dropout", {}).items()}
    return TrainConfig.model_validate({**tree, "dropout": dropout, "spec": spec.model_dump()})


def _set(tree: dict[str, Any], assignment: str) -> None:
    path, separator, value = assignment.partition("=")
    if not separator:
        raise ConfigError(f"--set {assignment!r} is not of the form section.key=value; fix: e.g. adapters.rank=8")
    *parents, key = path.strip().split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[key] = yaml.safe_load(value)


def _known(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            break
        model = field.annotation
    return sorted(model.model_fields)


def load_config(path: Path | None, overrides: tuple[str, ...] = ()) -> TrainConfig:
    """Return the configuration from YAML and `section.key=value` overrides.

    Raises ConfigError: All mistakes at once; an unknown key comes with the nearest one.
    """
    if path is not None and not path.is_file():
        raise ConfigError(f"configuration {path} does not exist; fix: take one of train/configs, e.g. demo.yaml")
    tree = yaml.safe_load(path.read_text()) or {} if path else {}
    for assignment in overrides:
        _set(tree, assignment)
    try:
        return TrainConfig.model_validate(tree)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            where, line = ".".join(map(str, item["loc"])), item["msg"]
            if item["type"] == "extra_forbidden":
                near = difflib.get_close_matches(str(item["loc"][-1]), _known(TrainConfig, item["loc"][:-1]), 1, 0)
                line = f"unknown key, did you mean {near[0]!r}?" if near else "unknown key"
            lines.append(f"{where}: {line}")
        raise ConfigError(f"{'; '.join(lines)}; fix: see train/configs") from None
