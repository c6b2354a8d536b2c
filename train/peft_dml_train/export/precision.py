# SPDX-License-Identifier: Apache-2.0
"""A bundle in another precision: the same graphs with 16-bit floats, or with 8-bit convolutions, inside them."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx

from peft_dml_ros.core.bundle import Bundle, Manifest, load_bundle
from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.engine import PRECISIONS
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.inputs import InputAssembler, NetworkInputs
from peft_dml_ros.core.spec import ModelSpec, graph_outputs
from peft_dml_ros.engines import load_engines
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_train.data.dataset import scenes_of
from peft_dml_train.export.half_precision import to_fp16
from peft_dml_train.export.operators import require_operators
from peft_dml_train.export.quantise import PERCENTILE, Feeds, activation_ranges, quantise_graph
from peft_dml_train.export.rewriting import describe, rewritten
from peft_dml_train.export.weights import folded, refer_to_base

log = logging.getLogger(__name__)

#: What leads to an encoder's latents, which are divided by their norm: where that is small, rounding decides. In 8 bit
#: these alone turned the camera latents of models/base to a cosine of .05, all others together leave .97.
_TO_LATENT: Final = ("laterals", "pyramid/merge", "pyramid/out", "/down", "/up")

#: By graph, parts of the names of convolutions that stay in float, as the last ones do: of the depth distribution, of
#: the lifted voxels (sparse and of all sizes: half of the camera's error in models/demo, and hardly a millisecond), of
#: the attention, and before a norm. The motion windows are too small to gain anything.
FLOAT_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "lidar": _TO_LATENT,
    "camera": ("lift", "/flatten", *_TO_LATENT),
    "radar": _TO_LATENT,
    "imu": ("",),
    "gnss": ("",),
    "fusion": ("/fusion/lidar", "/fusion/camera", "/fusion/radar", "/fusion/query"),
}

#: The same for graphs that a bundle holds next to its own, for CPUs: only the camera encoder, half of a frame and twice
#: as fast in 8 bit, hardly loses (.2 points of mAP at 2 m, all sensors, 36 simulated frames). The LiDAR encoder loses
#: 1.3 points alone and 1.6 with radar (72 frames), the radar encoder .7, the fusion .5 with all sensors. What the
#: camera's pyramid computes at full resolution of sparse voxels, and hands straight to the latent, stays in float as
#: well: half of what is left of the camera's error, for a twentieth of its time.
ADDED_FLOAT_PARTS: Final = FLOAT_PARTS | {
    "lidar": ("",),
    "camera": (*FLOAT_PARTS["camera"], "pyramid/levels.0", "pyramid/fine"),
    "radar": ("",),
    "fusion": ("",),
}

#: By graph, the share of values that ranges must hold, where it is not `quantise.PERCENTILE`. Activations of the camera
#: have long tails that matter: the error of its heat map halves against 99.9, and is as large again without any bound.
PERCENTILES: Final = {"camera": 99.99}

CALIBRATION_FRAMES: Final = 96


def half(bundle: Path, out: Path, *, add: bool = False) -> Path:
    """Make a bundle with 16-bit graphs, or with `add` one that holds them next to its own."""
    return _variant(load_bundle(bundle), out, "fp16", lambda _, model: to_fp16(model), {}, add=add)


def quantise(bundle: Path, frames: Iterable[NetworkInputs], out: Path, *, add: bool = False) -> Path:
    """Make a bundle with 8-bit convolutions, calibrated on frames; return `out`.

    Raises ConfigError: the bundle is not in float, or there is no frame.

    Args:
        bundle: Float bundle.
        frames: Network inputs of some dozens of frames that the robot may meet; not those that it is tested on.
        out: Folder of the new bundle; replaced.
        add: Whether the new bundle holds the 8-bit graphs next to its own, for the engine to choose.
    """
    source = load_bundle(bundle)
    feeds = graph_feeds(source, frames)
    if not feeds["fusion"]:
        raise ConfigError("no frame to calibrate on; fix: name splits or scenes that have keyframes")

    parts = ADDED_FLOAT_PARTS if add else FLOAT_PARTS
    found = calibrated_ranges(source, feeds, parts)

    def convert(graph: str, model: onnx.ModelProto) -> onnx.ModelProto:
        quantised, count = quantise_graph(model, found[graph], parts[graph])
        log.info("%s: %d convolutions in 8 bit", graph, count)
        return quantised

    return _variant(source, out, "int8", convert, {"calibration_frames": len(feeds["lidar"])}, add=add)


def calibrated_ranges(
    bundle: Bundle, feeds: Mapping[str, list[Feeds]], parts: Mapping[str, tuple[str, ...]] = FLOAT_PARTS
) -> dict[str, dict[str, float]]:
    """Return the largest magnitude of each activation by graph, with the bundle's adapters merged.

    Args:
        bundle: Float bundle.
        feeds: As `graph_feeds` gives them.
        parts: What stays in float, see `FLOAT_PARTS`.
    """
    models = {graph: onnx.load_from_string(bundle.graph(graph).content) for graph in bundle.manifest.graphs}
    return {
        g: activation_ranges(model, feeds[g], parts[g], PERCENTILES.get(g, PERCENTILE)) for g, model in models.items()
    }


def convert_bundle(
    bundle: Path,
    precision: str,
    out: Path,
    data: Path | None = None,
    splits: tuple[str, ...] = (),
    *,
    add: bool = False,
) -> Path:
    """Make a bundle in another precision. Raises ConfigError: unknown precision, or int8 without data.

    Args:
        bundle: Float bundle.
        precision: One of `PRECISIONS`.
        out: Folder of the new bundle; replaced. May be the old one.
        data: nuScenes folder to calibrate int8 on.
        splits: Its splits or scenes.
        add: Whether the new bundle holds these graphs next to its own, for the engine to choose.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision '{precision}'; {nearest(precision, PRECISIONS)}")
    if precision == "fp16":
        return half(bundle, out, add=add)
    if precision == "fp32":
        return _variant(load_bundle(bundle), out, "fp32", lambda _, model: model, {})
    if data is None:
        raise ConfigError("int8 is calibrated on frames; fix: name a nuScenes folder with --data")
    frames = calibration_frames(load_bundle(bundle).spec, data, splits, CALIBRATION_FRAMES)
    return quantise(bundle, frames, out, add=add)


def calibration_frames(
    spec: ModelSpec, data: Path, splits: tuple[str, ...], count: int = 32
) -> Iterator[NetworkInputs]:
    """Yield the network inputs of keyframes drawn from some scenes."""
    reader = NuScenesReader(data)
    tokens = [token for scene in scenes_of(reader, splits) for token in reader.samples(scene)]
    drawn = np.random.default_rng(0).permutation(len(tokens))[:count]
    for token in (tokens[i] for i in sorted(drawn)):
        assemble = InputAssembler(spec, reader.rig(token))
        yield assemble(reader.snapshot(token, spec))


def graph_feeds(bundle: Bundle, frames: Iterable[NetworkInputs]) -> dict[str, list[Feeds]]:
    """Return feeds of every graph; the fusion's also with each of the sensors left out in turn."""
    engines = load_engines(bundle)
    outputs = graph_outputs(bundle.spec)
    feeds: dict[str, list[Feeds]] = {graph: [] for graph in bundle.manifest.graphs}
    subsets = [(), *((m,) for m in DETECTING)]
    for number, frame in enumerate(frames):
        latents = {m: np.zeros(outputs[m]["latent"][0], np.float32) for m in MODALITIES}
        for modality, inputs in frame.feeds.items():
            feeds[modality].append(inputs)
            latents[modality] = engines[modality](inputs)["latent"]
        absent = subsets[number % len(subsets)]
        mask = frame.mask * np.array([m not in absent for m in MODALITIES], np.float32)
        present = {str(m): latents[m] if mask[i] else np.zeros_like(latents[m]) for i, m in enumerate(MODALITIES)}
        state = {"mask": mask, "age_s": frame.age_s * mask, "completeness": frame.completeness * mask}
        feeds["fusion"].append(present | state)
    return feeds


def _variant(
    source: Bundle,
    out: Path,
    precision: Literal["fp32", "fp16", "int8"],
    convert: Callable[[str, onnx.ModelProto], onnx.ModelProto],
    about: Mapping[str, Any],
    *,
    add: bool = False,
) -> Path:
    if source.manifest.precision != "fp32":
        msg = f"{source.path} is {source.manifest.precision}"
        raise ConfigError(f"{msg}; fix: convert the fp32 bundle that it came from")
    with rewritten(source, out) as work:
        weights = work / source.weights_file.name
        files: dict[str, str] = {}
        for graph, info in source.manifest.graphs.items():
            model = onnx.load(work / info.file)
            converted = convert(graph, model)
            if add and converted is model:
                continue
            # Next to the others, since weights are found relative to a graph's file.
            files[graph] = f"{graph}.{precision}.onnx" if add else info.file
            require_operators(folded(converted), graph)
            onnx.save(refer_to_base(converted, weights) if weights.is_file() else converted, work / files[graph])
        describe(work, _described(source, precision, about, files if add else None))
    return out


def _described(
    source: Bundle, precision: Literal["fp32", "fp16", "int8"], about: Mapping[str, Any], added: dict[str, str] | None
) -> Manifest:
    """Return the manifest of a converted bundle, or of one that holds further graphs."""
    manifest = source.manifest
    if added is not None:
        provenance = {**manifest.provenance, precision: dict(about)}
        return manifest.model_copy(
            update={"variants": {**manifest.variants, precision: added}, "provenance": provenance}
        )
    provenance = {**manifest.provenance, "precision": {"from": dict(manifest.files), **about}}
    changes = {"precision": precision, "provenance": provenance, "variants": {}}
    # Figures that were measured with other graphs do not hold for these.
    changes |= {"metrics": {}} if precision != manifest.precision else {}
    return manifest.model_copy(update=changes)
