# SPDX-License-Identifier: Apache-2.0
"""Weather on LiDAR and radar against the published formulas and figures."""

import time

import numpy as np
import pytest

from peft_dml_ros.core.measurements import RADAR_DTYPE
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.sim.weather import Weather, apply_to_snapshot
from peft_dml_tools.sim.weather import fog as fog_model
from peft_dml_tools.sim.weather import precipitation as lisa
from peft_dml_tools.sim.weather import radar_attenuation as itu

ALPHA_50_M = np.log(20) / 50


def cloud(ranges_m, intensity=50.0, seed=0):
    """Points at given ranges in random directions."""
    rng = np.random.default_rng(seed)
    sight = rng.normal(size=(len(ranges_m), 3))
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    points = np.zeros((len(ranges_m), 5), np.float32)
    points[:, :3] = sight * np.asarray(ranges_m)[:, None]
    points[:, 3], points[:, 4] = intensity, np.arange(len(points)) % 32
    return points


def ranges(points):
    return np.linalg.norm(points[:, :3].astype(np.float64), axis=1)


# ---------------------------------------------------------------- fog
@pytest.mark.parametrize(
    ("target_m", "peak_m", "response"),
    [(2, 1.90, 3.30e-10), (3, 2.90, 1.749e-9), (5, 4.60, 3.8156e-9), (50, 4.60, 3.8156e-9), (200, 4.60, 3.8156e-9)],
)
def test_fog_return_has_the_published_place_and_strength(target_m, peak_m, response):
    at, strength = fog_model.soft_return(0.06)
    entry = min(round(target_m / fog_model.STEP_M), len(at) - 1)
    assert at[entry] == pytest.approx(peak_m, abs=1e-9)
    assert strength[entry] == pytest.approx(response, rel=4e-3)


def test_fog_return_saturates_at_the_published_strength():
    assert fog_model.soft_return(0.06)[1][-1] == pytest.approx(3.8156e-9, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.005, 0.01, 0.02, 0.03, 0.06, 0.12, 0.2])
def test_the_table_is_long_enough_for_every_fog(alpha):
    at, strength = fog_model.soft_return(alpha)
    assert strength[-1] == strength[70]
    assert at[-1] < 7.0
    assert (np.diff(strength) >= 0).all()


@pytest.mark.parametrize(("alpha", "visibility_m"), [(0.005, 599), (0.02, 150), (0.06, 50), (0.2, 15)])
def test_visibility_and_extinction_agree(alpha, visibility_m):
    assert fog_model.extinction_per_m(visibility_m) == pytest.approx(alpha, rel=2e-3)
    assert Weather(fog_visibility_m=visibility_m).alpha_per_m == pytest.approx(alpha, rel=2e-3)


def test_fog_attenuates_in_place_until_its_own_return_wins():
    at = np.linspace(5, 80, 400)
    points = cloud(at)
    out = fog_model.fog(points, 0.06, np.random.default_rng(0), jitter_m=0)
    beta_share = 0.046 * 0.06 / np.log(20) / (1e-6 / np.pi)
    hard, soft = 50 * np.exp(-0.12 * at), 50 * at**2 * beta_share * 3.8156e-9
    assert out[:, 3] == pytest.approx(np.maximum(hard, soft), rel=1e-3)
    assert ranges(out) == pytest.approx(np.where(hard > soft, at, 4.6), rel=1e-5)
    assert 0.3 < (soft > hard).mean() < 0.9
    directions = points[:, :3] / ranges(points)[:, None], out[:, :3] / ranges(out)[:, None]
    assert np.abs(directions[0] - directions[1]).max() < 1e-5


def test_fog_returns_scatter_as_published():
    out = fog_model.fog(cloud(np.full(4000, 60.0)), 0.06, np.random.default_rng(0))
    assert 4.6 * 60 / 70 - 1e-3 < ranges(out).min() < 4.6 * 60 / 69
    assert 4.6 * 60 / 51 < ranges(out).max() < 4.6 * 60 / 50 + 1e-3
    assert np.median(ranges(out)) == pytest.approx(4.6, rel=0.02)


def test_fog_leaves_its_input_and_zero_ranges_alone():
    points = cloud([0.0, 0.0, 30.0])
    before = points.copy()
    out = fog_model.fog(points, 0.06, np.random.default_rng(0))
    assert (points == before).all()
    assert np.isfinite(out).all()
    assert (out[:2] == points[:2]).all()


@pytest.mark.alone
def test_fog_takes_at_most_10_ms_a_sweep():
    points = cloud(np.random.default_rng(0).uniform(1, 80, 34_000))
    fog_model.fog(points, 0.06, np.random.default_rng(0))
    taken = []
    for _ in range(7):
        begin = time.perf_counter()
        fog_model.fog(points, 0.06, np.random.default_rng(0))
        taken.append(time.perf_counter() - begin)
    assert min(taken) < 0.010


def test_real_keyframe_in_fog_of_50_m_thins_out_as_the_formula_says(real_keyframe):
    reader = NuScenesReader(real_keyframe)
    (token,) = reader.samples()
    snapshot = reader.snapshot(token, ModelSpec())
    foggy = apply_to_snapshot(snapshot.without("camera"), reader.rig(token), Weather.parse("fog=50"), seed=1)
    clear, out = snapshot.lidar["LIDAR_TOP"][0].points, foggy.lidar["LIDAR_TOP"][0].points
    # The fog wins where R² exp(2 α R) exceeds β0 / (β I): one range, whatever the target's intensity.
    r = np.linspace(10, 100, 90_001)
    beta_share = 0.046 / 50 / (1e-6 / np.pi)
    limit_m = r[np.argmax(r**2 * beta_share * 3.8156e-9 > np.exp(-2 * ALPHA_50_M * r))]
    assert 35 < limit_m < 36
    edges = [8, 10, 20, 30, limit_m - 0.05, limit_m + 0.05, 40, 60, 120]
    before, after = (np.histogram(ranges(p), edges)[0] for p in (clear, out))
    assert (after[:4] == before[:4]).all()
    assert (before[5:] > 100).all()
    assert (after[5:] == 0).all()
    returned = (ranges(clear) > 8) & (ranges(out) < 7)
    assert returned.sum() == pytest.approx(before[5:].sum(), abs=int(before[4]))
    kept = (ranges(clear) > 8) & ~returned & (clear[:, 3] > 0)
    weakened = np.exp(-2 * ALPHA_50_M * ranges(clear[kept]))
    assert out[kept, 3] / clear[kept, 3] == pytest.approx(weakened, rel=1e-4)


# ---------------------------------------------------------------- rain and snow
@pytest.mark.parametrize(("rate", "alpha", "two_way_50_m"), [(10, 1.56e-3, 0.856), (50, 4.29e-3, 0.651)])
def test_rain_extinction_is_the_published_one(rate, alpha, two_way_50_m):
    found = lisa.rain(rate).alpha_per_m
    assert found == pytest.approx(alpha, rel=5e-3)
    assert found == pytest.approx(3.65e-4 * rate**0.63, rel=5e-3)
    assert np.exp(-2 * found * 50) == pytest.approx(two_way_50_m, abs=1e-3)


@pytest.mark.parametrize("particles", [lisa.rain(25), lisa.snow(2.5), lisa.flakes(2.5, 1.6)])
def test_extinction_and_number_are_integrals_of_the_size_distribution(particles):
    d = np.linspace(0, 60 / particles.slope_per_mm, 200_001)
    density = particles.intercept_per_m3_mm * np.exp(-particles.slope_per_mm * d)
    step = d[1] - d[0]
    assert particles.alpha_per_m == pytest.approx(np.pi / 4 * 1e-6 * (d**2 * 2 * density).sum() * step, rel=1e-3)
    assert particles.per_m3 == pytest.approx(density[d >= lisa.LEAST_MM].sum() * step, rel=1e-3)
    drawn = particles.diameters_mm(50_000, np.random.default_rng(0))
    assert drawn.min() >= lisa.LEAST_MM
    assert drawn.mean() == pytest.approx(lisa.LEAST_MM + 1 / particles.slope_per_mm, rel=0.02)


def test_snowflakes_fill_the_air_as_the_fall_speed_says():
    # 2.5 mm/h at 1.6 m/s and a tenth of water's density: 4.34 millionths of the air.
    particles = lisa.flakes(2.5, 1.6)
    d = np.linspace(0, 200, 400_001)
    volume = (np.pi / 6 * (d * 1e-3) ** 3 * particles.intercept_per_m3_mm * np.exp(-particles.slope_per_mm * d)).sum()
    assert volume * (d[1] - d[0]) == pytest.approx(2.5 / (3.6e6 * 0.1 * 1.6), rel=1e-3)


def test_beam_holds_as_many_drops_as_lisa_counts():
    # 8000 / 2.528 exp(-2.528 x .05) = 2789 drops in a cubic metre, 2.36e-3 cubic metres of beam up to 10 m.
    assert lisa.rain(10).per_m3 * lisa.beam_volume_m3(np.array(10.0)) == pytest.approx(6.57, rel=5e-3)


@pytest.mark.parametrize("particles", [lisa.rain(50), lisa.flakes(1.5, 0.4)])
def test_no_drop_is_seen_beyond_the_search(particles):
    (reach_m,) = lisa.search_range_m(particles, np.array([lisa.DETECTABLE]))
    largest_mm = particles.diameters_mm(200_000, np.random.default_rng(0)).max()

    def power(d_mm, r_m):
        return particles.reflectance * min((d_mm / (3.0 * r_m)) ** 2, 1.0) / r_m**2

    assert power(largest_mm, reach_m) < lisa.DETECTABLE
    assert power(1.5 * largest_mm, 0.9 * reach_m) > lisa.DETECTABLE


def test_drop_returns_equal_an_exhaustive_search():
    particles, beams, end_m = lisa.rain(50), 3000, 12.0
    threshold = np.full(beams, lisa.DETECTABLE)
    power, at = lisa.strongest_particle(np.full(beams, end_m), threshold, particles, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    expected = np.zeros(beams)
    for beam in range(beams):
        count = rng.poisson(particles.per_m3 * lisa.beam_volume_m3(np.array(end_m)))
        r = end_m * np.cbrt(rng.random(count))
        d = particles.diameters_mm(count, rng)[r > 1.5]
        r = r[r > 1.5]
        share = np.minimum((d / (1e3 * np.tan(3e-3) * r)) ** 2, 1)
        returned = (0.328 / 2.328) ** 2 * np.exp(-2 * particles.alpha_per_m * r) * share / r**2
        expected[beam] = returned.max(initial=0.0)
    seen = expected > lisa.DETECTABLE
    assert (power > 0).mean() == pytest.approx(seen.mean(), abs=4 * np.sqrt(seen.mean() / beams) + 1e-3)
    assert seen.mean() > 0.05
    assert np.median(power[power > 0]) == pytest.approx(np.median(expected[seen]), rel=0.25)
    assert ((at[power > 0] > 1.5) & (at[power > 0] < end_m)).all()


def test_rain_weakens_what_stays_and_blurs_its_range():
    at = np.full(20_000, 30.0)
    out = lisa.precipitate(cloud(at, 200.0), lisa.rain(50), np.random.default_rng(0))
    stays = ranges(out) > 20
    left = np.exp(-2 * lisa.rain(50).alpha_per_m * 30)
    assert out[stays, 3] == pytest.approx(200 * left, rel=1e-4)
    sigma_m = 0.09 / np.sqrt(2 * 200 / 255 * left / 900 / 2.25e-5)
    assert ranges(out[stays]).std() == pytest.approx(sigma_m, rel=0.05)


def test_weak_far_points_are_lost_in_rain():
    # Reflectance .05 at 40 m: 3.1e-5 in clear air, above the floor of 2.25e-5; below it at 50 mm/h, not at 1 mm/h.
    points = cloud(np.full(2000, 40.0), 0.05 * 255)
    light, heavy = (lisa.precipitate(points, lisa.rain(r), np.random.default_rng(0)) for r in (1.0, 50.0))
    assert (ranges(light) > 30).sum() > 1980
    assert (ranges(heavy) > 30).sum() == 0


def test_rain_vanishes_with_its_rate():
    points = cloud(np.random.default_rng(3).uniform(0, 90, 5000), 10.0)
    out = lisa.precipitate(points, lisa.rain(1e-3), np.random.default_rng(0))
    assert len(out) > 0.99 * len(points)
    near = ranges(points) < 1.5
    assert (out[ranges(out) < 1.5] == points[near]).all()


# ---------------------------------------------------------------- radar
@pytest.mark.parametrize(
    ("rate", "db_per_km", "db_two_way"),
    [(5, 3.6, 0.7), (10, 5.9, 1.2), (25, 11.4, 2.3), (50, 18.8, 3.8), (100, 30.9, 6.2)],
)
def test_radar_attenuation_is_that_of_the_recommendation(rate, db_per_km, db_two_way):
    assert itu.specific_attenuation_db_per_km(rate) == pytest.approx(db_per_km, abs=0.06)
    assert itu.two_way_loss_db(rate, 100.0) == pytest.approx(db_two_way, abs=0.06)


def radar_points(x, rcs, own=(0.0, 0.0)):
    points = np.zeros(len(x), RADAR_DTYPE)
    bearing = np.linspace(-0.5, 0.5, len(x))
    points["x"], points["y"] = x * np.cos(bearing), x * np.sin(bearing)
    along = np.cos(bearing) * own[0] + np.sin(bearing) * own[1]
    points["vx"], points["vy"] = -along * np.cos(bearing), -along * np.sin(bearing)
    points["rcs"], points["ambig_state"] = rcs, 3
    return points


def test_rain_takes_cross_section_and_weak_detections():
    points = radar_points(np.array([20.0, 60.0, 100.0, 100.0]), np.array([5.0, 5.0, 1.0, 10.0], np.float32))
    out = itu.attenuate(points, np.random.default_rng(0), rain_mmph=25)
    real = out[out["pdh0"] == 0]
    # 2.28 dB at 100 m: 1 dBsm sinks below the floor of 0 dBsm there, 10 dBsm does not.
    assert real["rcs"] == pytest.approx([5 - 0.456, 5 - 1.369, 10 - 2.281], abs=0.01)


def test_rain_adds_spray_whose_doppler_holds_the_own_speed():
    points = radar_points(np.linspace(5, 60, 30), 20.0, own=(12.0, -1.0))
    assert itu.own_velocity_mps(points) == pytest.approx([12.0, -1.0], abs=1e-3)
    rng = np.random.default_rng(0)
    out = [itu.attenuate(points, rng, rain_mmph=50) for _ in range(400)]
    spray = np.concatenate([p[p["pdh0"] == 3] for p in out])
    assert len(spray) / 400 == pytest.approx(50 * itu.CLUTTER_PER_MMPH, rel=0.15)
    distance = np.hypot(spray["x"], spray["y"])
    assert ((distance >= 4.99) & (distance <= 50.01)).all()
    sight = np.stack([spray["x"], spray["y"]]) / distance
    closing = (spray["vx_comp"] - spray["vx"]) * sight[0] + (spray["vy_comp"] - spray["vy"]) * sight[1]
    assert closing == pytest.approx(12 * sight[0] - sight[1], abs=1e-3)


def test_snow_costs_the_radar_less_than_rain_but_for_the_radome():
    points = radar_points(np.full(50, 80.0), 20.0)
    out = itu.attenuate(points, np.random.default_rng(0), snow_mmph=10)
    assert out["rcs"] == pytest.approx(20 - 2.0 - 0.1 * 2 * 5.91 * 0.08, abs=0.01)
    assert len(out) == 50
