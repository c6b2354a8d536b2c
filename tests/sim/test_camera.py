# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from peft_dml_ros.sim.camera import Renderer
from peft_dml_ros.sim.raycast import Caster
from peft_dml_ros.sim.vehicle_rig import make_rig

RIG = make_rig(352)


@pytest.mark.parametrize("name", [s.name for s in RIG.of("camera")])
def test_camera_draws_a_car_where_its_box_projects(bare_world, name):
    sensor = RIG[name]
    ahead = sensor.base_SE3_sensor.rotation[:, 2]
    at = sensor.base_SE3_sensor.translation[:2] + 12.0 * ahead[:2]
    pictures = [
        Renderer(Caster(bare_world(at=where)))
        .picture(sensor.base_SE3_sensor, sensor.camera, 1.0, np.random.default_rng(0))
        .pixels
        for where in (at, (-200.0, -200.0))
    ]
    # Shadows fall along +y here; what differs above the ground is the car.
    differs = np.abs(pictures[0].astype(int) - pictures[1].astype(int)).max(axis=2) > 12
    box = bare_world(at=at).boxes(1.0)
    corners = sensor.base_SE3_sensor.inverse().transform(box.corners_m()[0])
    pixels = corners @ sensor.camera.intrinsics.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    rows, columns = np.nonzero(differs)
    assert rows.min() == pytest.approx(pixels[:, 1].min(), abs=4)
    assert np.quantile(columns, 0.02) >= pixels[:, 0].min() - 12
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    inside = (columns >= low[0] - 2) & (columns <= high[0] + 2) & (rows >= low[1] - 2) & (rows <= high[1] + 2)
    assert inside.mean() > 0.6
    assert inside.sum() > 0.35 * np.prod(high - low)
