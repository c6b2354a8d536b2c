# SPDX-License-Identifier: Apache-2.0
"""Random inputs of the right shapes, for export, measurements and tests."""

import torch

from peft_dml_ros.core.spec import ModelSpec, graph_inputs


def random_feeds(spec: ModelSpec, batch: int = 1, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Return feeds of all encoders with a leading batch axis; indices are within their tables, mostly "nothing"."""
    draw = torch.Generator().manual_seed(seed)
    pixels = len(spec.camera.cameras) * spec.camera.feature_hw[0] * spec.camera.feature_hw[1]
    bins = spec.camera.depth_bins
    feeds: dict[str, dict[str, torch.Tensor]] = {}
    for graph, inputs in graph_inputs(spec).items():
        if graph == "fusion":
            continue
        feeds[graph] = {}
        for name, (shape, dtype) in inputs.items():
            full = (batch, *shape)
            if name == "index_map":
                pillars = inputs["pillars"][0][0]
                value = torch.full(full, pillars, dtype=torch.int32)
                used = min(pillars, shape[0] // 2)
                for row in value:
                    row[torch.randperm(shape[0], generator=draw)[:used]] = torch.arange(used, dtype=torch.int32)
            elif name == "voxel_pixel":
                value = torch.randint(0, pixels + 1, full, generator=draw, dtype=torch.int32)
            elif name == "voxel_depth":
                # A voxel's depth bin belongs to the voxel's pixel.
                pixel = feeds[graph]["voxel_pixel"]
                bin_ = torch.randint(0, bins, full, generator=draw, dtype=torch.int32)
                value = torch.where(pixel < pixels, pixel * bins + bin_, pixels * bins)
            elif dtype == "uint8":
                value = torch.randint(0, 256, full, generator=draw, dtype=torch.uint8)
            elif name == "present":
                value = torch.ones(full)
            else:
                value = torch.randn(full, generator=draw)
            feeds[graph][name] = value
    return feeds
