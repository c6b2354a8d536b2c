# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from peft_dml_ros.core.classes import CLASSES
from peft_dml_tools.bench import published
from peft_dml_tools.bench.statistics import EGO_RANGE_M, LIDAR, RADAR, measure_folder, quantiles
from peft_dml_tools.datasets.nuscenes import NuScenesReader


def test_real_keyframe_gives_the_published_figures(real_keyframe):
    measured = measure_folder(NuScenesReader(real_keyframe, allow_missing=True))
    for sweeps, real in ((measured.lidar, published.LIDAR[0]), (measured.radar, published.RADAR[0])):
        assert sweeps.counts.tolist() == [real.points]
        assert quantiles(sweeps.ranges_m)[0] == pytest.approx(real.range_m, abs=0.051)
        assert quantiles(sweeps.levels)[0] == pytest.approx(real.level, abs=0.051)
    assert (measured.lidar.ranges_m[0] < EGO_RANGE_M).mean() == pytest.approx(published.LIDAR[0].near, abs=0.006)


def test_objects_of_the_real_keyframe(real_keyframe):
    objects = measure_folder(NuScenesReader(real_keyframe, allow_missing=True)).objects
    assert len(objects.labels) == 69
    assert (objects.labels == -1).sum() == 1
    people = objects.sizes_m[objects.labels == CLASSES.index("pedestrian")]
    assert len(people) == 30
    assert 1.5 < people[:, 2].mean() < 2.0


def test_simulated_folder_is_measured_as_its_files_say(simulated):
    measured = measure_folder(simulated)
    tokens = simulated.samples()
    assert measured.frames == len(tokens) == 3
    for i, token in enumerate(tokens):
        records = simulated.keyframes(token)
        points = np.fromfile(simulated.root / records[LIDAR]["filename"], "<f4").reshape(-1, 5)
        assert measured.lidar.counts[i] == len(points)
        far = np.sqrt((points[:, :3].astype(float) ** 2).sum(axis=1)).max()
        assert measured.lidar.ranges_m[i].max() == pytest.approx(far)
        assert measured.lidar.levels[i].sum() == pytest.approx(points[:, 3].sum(dtype=float))
        assert measured.radar.counts[i] == len(simulated.load(records[RADAR]).points)


def test_simulated_objects_agree_with_the_boxes_that_the_reader_gives(simulated):
    objects = measure_folder(simulated).objects
    boxes = [simulated.truth(token, keep_unseen=True) for token in simulated.samples()]
    known = objects.labels >= 0
    assert known.sum() == sum(map(len, boxes))
    distances = np.concatenate([np.hypot(b.centers_m[:, 0], b.centers_m[:, 1]) for b in boxes])
    assert np.sort(objects.distances_m[known]) == pytest.approx(np.sort(distances))
    sizes = np.concatenate([b.sizes_m for b in boxes])
    assert np.sort(objects.sizes_m[known], axis=0) == pytest.approx(np.sort(sizes, axis=0))
    seen = sum(len(simulated.truth(token)) for token in simulated.samples())
    assert ((objects.lidar_points + objects.radar_points)[known] > 0).sum() == seen
