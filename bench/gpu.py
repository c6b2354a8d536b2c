# SPDX-License-Identifier: Apache-2.0
"""Measure a bundle on the NVIDIA GPU of this machine, and compare its candidates with ONNX Runtime's on the CPU.

python bench/gpu.py --bundle demo --out bench/gpu.json

Every engine that loads here is measured: TensorRT for RTX, TensorRT, ONNX Runtime's CUDA, and PyTorch where the
training package is installed. Each sensor subset runs on the same made-up latents; candidates are matched by cell and
class.
"""

import argparse
import json
import time
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np

from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import PeftDmlError
from peft_dml_ros.core.spec import graph_outputs
from peft_dml_ros.engines import load_engines

ENGINES = ("tensorrt-rtx", "tensorrt", "onnxruntime-cuda")
MASKS = [np.array(bits, np.float32) for bits in product((1, 0), repeat=5) if any(bits)]
SCORE_TOLERANCE, LEAST_MATCHED = 0.01, 0.98


def made_up_feeds(bundle, seed=0):
    """Return inputs of every encoder: indices within their range, everything else normal."""
    rng, feeds = np.random.default_rng(seed), {}
    limits = {"lidar": bundle.spec.lidar.pillars, "radar": bundle.spec.radar.pillars, "camera": 1000}
    for graph in MODALITIES:
        feeds[graph] = {}
        for name, info in bundle.manifest.graphs[graph].inputs.items():
            if info.dtype == "int32":
                values = rng.integers(0, limits[graph], info.shape)
            elif info.dtype == "uint8":
                values = rng.integers(0, 255, info.shape)
            else:
                values = np.ones(info.shape) if name == "present" else rng.normal(size=info.shape)
            feeds[graph][name] = values.astype(info.dtype)
    return feeds


def state(mask):
    return {"mask": mask, "age_s": np.zeros(5, np.float32), "completeness": mask}


def percentiles(times_ms):
    return {f"p{p}": round(float(np.percentile(times_ms, p)), 3) for p in (50, 99)}


def spent_ms(call, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def differences(reference, found):
    """Return the share of the reference's candidates that are there, and the largest difference of their scores."""
    rows = {key: i for i, key in enumerate(zip(found["cells"], found["labels"], strict=True))}
    keys = list(zip(reference["cells"], reference["labels"], strict=True))
    pairs = [(i, rows[key]) for i, key in enumerate(keys) if key in rows]
    gaps = [abs(float(reference["scores"][i] - found["scores"][j])) for i, j in pairs]
    return len(pairs) / len(keys), max(gaps, default=1.0)


def compare(bundle, engines, reference, feeds):
    """Return the worst share and score difference over all 31 subsets; latents are computed by each side itself."""
    shapes = {m: graph_outputs(bundle.spec)[m]["latent"][0] for m in MODALITIES}
    latents = [{m: e[m](feeds[m])["latent"] for m in MODALITIES} for e in (reference, engines)]
    worst = [1.0, 0.0]
    for mask in MASKS:
        sides = []
        for side, own in zip((reference, engines), latents, strict=True):
            given = {m: own[m] if mask[i] else np.zeros(shapes[m], np.float32) for i, m in enumerate(MODALITIES)}
            sides.append(side["fusion"](given | state(mask)))
        share, gap = differences(*sides)
        worst = [min(worst[0], share), max(worst[1], gap)]
    return worst


def measure(engines, feeds, repeats):
    """Return times of each graph with its copies, of its kernels alone, and of a frame with latents on the device."""
    for engine in engines.values():
        engine.warm_up()
    report = {}
    for graph in MODALITIES:
        times = spent_ms(lambda g=graph: engines[g](feeds[g]), repeats)
        report[graph] = percentiles(times) | {"kernels_ms": round(engines[graph].elapsed_ms, 3)}

    def frame():
        # Each start returns at once: the encoders' streams overlap, and the fusion waits for them on the device.
        latents = {str(m): engines[m].start(feeds[m])["latent"] for m in MODALITIES}
        engines["fusion"](latents | state(MASKS[0]))

    report["frame"] = percentiles(spent_ms(frame, repeats))
    report["fusion"] = {"kernels_ms": round(engines["fusion"].elapsed_ms, 3)}
    return report


def measure_torch(bundle, repeats):
    """Return times of the same network in PyTorch on the GPU, in 16 bit."""
    import torch  # noqa: PLC0415

    from peft_dml_train.export.eager_time import network_of  # noqa: PLC0415
    from peft_dml_train.export.graphs import example_inputs, graph_module  # noqa: PLC0415

    network, report = network_of(bundle).cuda(), {}
    with torch.no_grad(), torch.autocast("cuda", torch.float16):
        for graph in bundle.manifest.graphs:
            module = graph_module(network, graph).eval()
            inputs = [value.cuda() for value in example_inputs(bundle.spec, graph)]

            def run(module=module, inputs=inputs):
                module(*inputs)
                torch.cuda.synchronize()

            spent_ms(run, 5)
            report[graph] = percentiles(spent_ms(run, repeats))
    return report


def card():
    """Name of the GPU, as far as anything here can tell."""
    with suppress(PeftDmlError):
        from peft_dml_ros.engines.cuda import Cuda  # noqa: PLC0415

        return Cuda().gpu().name
    return "none"


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--bundle", default="demo")
    options.add_argument("--engine", nargs="*", default=ENGINES, help="engines to try; onnxruntime tries the script")
    options.add_argument("--precision", default="auto")
    options.add_argument("--repeats", type=int, default=200)
    options.add_argument("--out", type=Path, default=Path("bench/gpu.json"))
    chosen = options.parse_args()
    bundle = load_bundle(chosen.bundle)
    feeds, reference = made_up_feeds(bundle), load_engines(bundle, precision="fp32")
    report = {"card": card(), "bundle": f"{bundle.manifest.name} {bundle.manifest.version}", "engines": {}}
    failed = False
    for name in chosen.engine:
        try:
            # What 8 bit changes on a CPU is a question of accuracy (check-precision), not of the device.
            precision = "fp32" if (name, chosen.precision) == ("onnxruntime", "auto") else chosen.precision
            engines = load_engines(bundle, name, precision=precision)
            share, gap = compare(bundle, engines, reference, feeds)
            good = share >= LEAST_MATCHED and gap <= SCORE_TOLERANCE
            failed |= not good
            print(f"{name}: over 31 subsets at least {share:.1%} of the candidates, scores differ by {gap:.4f} at most")
            times = measure(engines, feeds, chosen.repeats)
        except PeftDmlError as error:
            print(f"{name}: {error}")
            continue
        report["engines"][name] = {"matched": share, "score_difference": gap, "equal": good, "ms": times}
        print(f"{name}: a frame takes {times['frame']['p50']} ms (p99 {times['frame']['p99']})")
    try:  # a card that no engine above takes still gives a figure
        report["engines"]["torch fp16"] = {"ms": measure_torch(bundle, chosen.repeats)}
    except (ImportError, RuntimeError, AssertionError) as error:
        print(f"torch: {str(error).splitlines()[0]}")
    chosen.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['card']}: figures are in {chosen.out}")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
