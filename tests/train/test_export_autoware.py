# SPDX-License-Identifier: Apache-2.0
"""Both graphs for Autoware in ONNX Runtime, between pre- and post-processing of its kind, give the bundle's boxes."""

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from peft_dml_ros.core.boxes import decode_candidates
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.geometry import wrap_angle
from peft_dml_ros.core.pillars import lidar_pillars
from peft_dml_train.export.autoware import BACKBONE, ENCODER, OUTPUTS, PARAMETERS, POINTS, export_autoware, parameters
from peft_dml_train.export.graphs import FusionGraph
from peft_dml_train.loop.stages import new_network


def lively(network):
    """Random weights everywhere, also where training starts from zero, and lived-in batch norms."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.mul_(1.3)
            elif name.endswith("running_mean"):
                buffer.add_(0.05)
    return network.eval()


@pytest.fixture(params=["pyramid", "second"])
def exported(request, config, tmp_path):
    if request.param == "second":
        lidar = config.network.lidar
        second = lidar.model_copy(update={"body": "second", "out": lidar.neck * len(lidar.widths)})
        config = config.model_copy(update={"network": config.network.model_copy(update={"lidar": second})})
    network = lively(new_network(config))
    return network, export_autoware(network, tmp_path / "autoware")


def cloud(spec, seed=0):
    """(N, 5) points in base_link, few enough that every pillar holds all of its own."""
    draw = np.random.default_rng(seed)
    half, count = spec.grid.half_range_m, min(600, spec.lidar.pillars // 2)
    points = np.empty((count, 5), dtype=np.float32)
    points[:, :2] = draw.uniform(-half + 0.5, half - 0.5, (count, 2))
    points[: count // 3, :2] = points[0, :2] + draw.uniform(-7, 7, (count // 3, 2))
    points[:, 2], points[:, 3], points[:, 4] = (
        draw.uniform(0, 2, count),
        draw.uniform(0, 1, count),
        0.1 * draw.integers(0, 2, count),
    )
    return points[np.argsort(points[:, 4], kind="stable")]


def voxelised(points, model):
    """Autoware's preprocessing: features (V, 32, 11) of pillars, and the row and column of each."""
    low, size = np.array(model["point_cloud_range"][:2]), np.array(model["voxel_size"])
    cells = np.floor((points[:, :2] - low) / size[:2]).astype(int)
    pillars, centre_z = {}, (model["point_cloud_range"][2] + model["point_cloud_range"][5]) / 2
    for point, cell in zip(points, map(tuple, cells), strict=True):
        pillars.setdefault(cell, []).append(point)
    features = np.zeros((len(pillars), POINTS, model["encoder_in_feature_size"]), dtype=np.float32)
    for row, (cell, members) in enumerate(pillars.items()):
        kept = np.array(members[:POINTS])
        centre = low + (np.array(cell) + 0.5) * size[:2]
        raw = kept * [1, 1, 1, 255, 1]
        features[row, : len(kept)] = np.c_[
            raw, kept[:, :3] - kept[:, :3].mean(0), kept[:, :2] - centre, kept[:, 2:3] - centre_z
        ]
    return features, np.array([(y, x) for x, y in pillars])


def decoded(outputs, model):
    """Autoware's post-processing of every cell: (classes, H, W) scores, and by cell x, y, z, l, w, h, yaw, vx, vy."""
    heat, reg, height, dim, rot, vel = (outputs[name][0] for name in OUTPUTS)
    rows, columns = np.mgrid[: heat.shape[1], : heat.shape[2]]
    cell = model["voxel_size"][0] * model["downsample_factor"]
    x = cell * (columns + reg[0]) + model["point_cloud_range"][0]
    y = cell * (rows + reg[1]) + model["point_cloud_range"][1]
    width, length, tall = np.exp(dim)
    yaw = -np.arctan2(rot[0], rot[1]) - np.pi / 2
    return 1 / (1 + np.exp(-heat)), np.stack([x, y, height[0], length, width, tall, yaw, vel[0], vel[1]])


def run(path, feeds):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def test_both_graphs_give_the_boxes_of_the_bundle(exported):
    network, folder = exported
    spec, points = network.spec, cloud(network.spec)
    model = yaml.safe_load((folder / PARAMETERS).read_text())["/**"]["ros__parameters"]["model_params"]
    features, places = voxelised(points, model)
    assert (features[:, :, :3] != 0).any(axis=2).sum(1).max() <= spec.lidar.points_per_pillar
    encoded = run(folder / ENCODER, {"input_features": features})["pillar_features"]
    spatial = np.zeros((1, 32, spec.lidar.pillar_grid, spec.lidar.pillar_grid), dtype=np.float32)
    spatial[0, :, places[:, 0], places[:, 1]] = encoded.reshape(len(places), -1)
    outputs = run(folder / BACKBONE, {"spatial_features": spatial})
    assert set(outputs) == set(OUTPUTS)
    scores, cells = decoded(outputs, model)

    pillars, index_map = (torch.from_numpy(a)[None] for a in lidar_pillars(points, spec.grid, spec.lidar))
    with torch.no_grad():
        latent, _ = network.encode("lidar", {"pillars": pillars, "index_map": index_map})
        latents = [latent if m == "lidar" else torch.zeros_like(latent) for m in MODALITIES[:3]]
        mask = torch.tensor([1.0, 0, 0, 0, 0])
        moving = [torch.zeros(1, spec.latent_dim)] * 2
        found = FusionGraph(network)(*latents, *moving, mask, torch.zeros(5), mask)
    names = ("scores", "labels", "cells", "regression", "attributes")
    given = {n: v.numpy() for n, v in zip(names, found, strict=False)}
    # Autoware takes one class per cell; the bundle may have a second one there, which has no box of its own here.
    first = given["labels"] == scores.argmax(axis=0).ravel()[given["cells"]]
    best = decode_candidates({n: v[first] for n, v in given.items()}, spec, 0.0)[:50]
    assert len(best) >= 10
    size = spec.grid.size
    for i in range(len(best)):
        distance = np.hypot(cells[0] - best.centers_m[i, 0], cells[1] - best.centers_m[i, 1])
        distance[np.abs(scores[best.labels[i]] - best.scores[i]) > 1e-4] = np.inf
        row, column = divmod(int(distance.argmin()), size)
        x, y, z, length, width, tall, yaw, vx, vy = cells[:, row, column]
        np.testing.assert_allclose([x, y, z], best.centers_m[i], atol=1e-3)
        # The bundle's decoder keeps sizes between e^-4 and e^4 m; a network that nothing has taught may leave them.
        np.testing.assert_allclose(np.clip([length, width, tall], np.exp(-4), np.exp(4)), best.sizes_m[i], rtol=1e-3)
        np.testing.assert_allclose([vx, vy], best.velocities_mps[i], atol=1e-3)
        assert abs(wrap_angle(yaw - best.yaws_rad[i])) < 1e-3


def test_rows_without_a_point_change_nothing(exported):
    network, folder = exported
    model = parameters(network.spec)
    features, _ = voxelised(cloud(network.spec), model)
    once = run(folder / ENCODER, {"input_features": features})["pillar_features"]
    more = run(folder / ENCODER, {"input_features": np.concatenate([features, features[:5]])})["pillar_features"]
    np.testing.assert_array_equal(more[: len(once)], once)
    assert once.shape == (len(features), 32)


def test_more_channels_than_autoware_takes_are_refused(config, tmp_path):
    wide = config.network.lidar.model_copy(update={"pillar": 64})
    network = new_network(config.model_copy(update={"network": config.network.model_copy(update={"lidar": wide})}))
    with pytest.raises(ConfigError, match=r"network\.lidar\.pillar=32"):
        export_autoware(network, tmp_path)
