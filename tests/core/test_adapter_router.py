# SPDX-License-Identifier: Apache-2.0
"""The router takes the adapter of the scene that is seen, slowly, and only one that the sensors allow."""

import json
from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core.adapter import CARD
from peft_dml_ros.core.adapter_domain import DOMAIN, AdapterDomain, Spread, read_domain, scene_figures
from peft_dml_ros.core.adapter_router import AdapterRouter, domains_of
from peft_dml_ros.core.adapter_store import FOLDER_VARIABLE
from peft_dml_ros.core.bundle import ADAPTERS, load_bundle
from peft_dml_ros.core.errors import BundleError, DataError
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.params import PerceptionParams, RouterParams
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.core.verified_files import sha256
from peft_dml_tools.bundles.adapter_changes import add_adapter
from peft_dml_tools.sim.drive import Drive, DriveSpec
from peft_dml_tools.sim.weather import Weather, apply_to_snapshot
from peft_dml_train.export.adapter import domain_of
from tests.support.random_bundle import make_random_adapter, make_random_base

ALL = ("lidar", "camera", "radar")
PARAMS = RouterParams(enabled=True, window_s=1.0, hold_s=3.0, margin=0.2)
DRY, WET = {"lidar_far": 0.10}, {"lidar_far": 0.04}


def domain(far, *absent):
    return AdapterDomain(figures={"lidar_far": Spread(far, 0.02)}, frames=9, absent=absent)


def choices(router, looks, present=ALL, start_s=0.0):
    """The adapter in use after each look, one a second."""
    return [router.look(figures, present, start_s + i).adapter for i, figures in enumerate(looks)]


@pytest.fixture
def router():
    return AdapterRouter({"default": domain(0.10), "rain": domain(0.04)}, PARAMS, "default")


def test_it_changes_when_another_adapter_has_led_for_long_enough_and_comes_back(router):
    assert choices(router, [DRY] * 3 + [WET] * 6) == ["default"] * 6 + ["rain"] * 3
    choice = router.look(WET, ALL, 9.0)
    assert choice.reason == "the scene is most like its domain"
    assert choice.fits["rain"] > choice.fits["default"]
    assert choices(router, [DRY] * 6, start_s=10.0)[-1] == "default"


def test_it_does_not_follow_a_scene_that_wavers(router):
    assert set(choices(router, [DRY, WET] * 10)) == {"default"}
    assert set(choices(router, [{"lidar_far": 0.069}] * 10, start_s=20.0)) == {"default"}, "within the margin"
    assert "leads for 0 of 3 s: the scene is most like its domain, by" in router.look(WET, ALL, 40.0).reason


def test_a_scene_like_none_takes_the_default(router):
    choices(router, [WET] * 5)
    assert router.adapter == "rain"
    far = [{"lidar_far": 0.9}] * 8
    assert choices(router, far, start_s=5.0)[-1] == "default"
    assert "like no adapter's domain" in router.look(far[0], ALL, 14.0).reason
    assert router.look({}, ALL, 15.0).reason == "nothing seen that an adapter's domain knows"


def test_an_adapter_for_use_without_a_sensor_is_taken_only_while_it_is_missing():
    router = AdapterRouter({"default": domain(0.10), "blind": domain(0.10, "lidar")}, PARAMS, "default")
    seen = {"lidar_far": 0.10}
    assert set(choices(router, [seen] * 5)) == {"default"}
    assert choices(router, [seen] * 5, ("camera", "radar"), 5.0)[-1] == "blind"
    assert "made for use without lidar" in router.look(seen, ("camera", "radar"), 10.0).reason
    assert choices(router, [seen] * 5, start_s=11.0)[-1] == "default"


def test_an_excluded_adapter_is_chosen_no_more(router):
    router.exclude("rain")
    assert set(choices(router, [WET] * 9)) == {"default"}


def add_domain(folder, text):
    (folder / DOMAIN).write_text(text)
    card = json.loads((folder / CARD).read_text())
    card["files"][DOMAIN] = sha256(folder / DOMAIN)
    (folder / CARD).write_text(json.dumps(card))


def test_domains_come_from_the_bundle_and_the_vehicle_and_damage_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "store"))
    base = make_random_base(tmp_path / "base")
    for name, text in (("default", domain(0.1).model_dump_json()), ("rain", "{"), ("plain", "")):
        folder = make_random_adapter(base / ADAPTERS / name, base, name)
        if text:
            add_domain(folder, text)
    mine = make_random_adapter(tmp_path / "mine", base, "mine")
    add_domain(mine, domain(0.2, "lidar").model_dump_json())
    bundle = load_bundle(base)
    add_adapter(mine, str(bundle.manifest.base["sha256"]), "base")
    domains, refused = domains_of(bundle)
    assert {name: d.absent for name, d in domains.items()} == {"default": (), "mine": ("lidar",)}
    assert f"has no {DOMAIN}" in refused["plain"]
    assert "no description of a domain" in refused["rain"]
    (mine / DOMAIN).write_text('{"figures": {"lidar_far": [NaN, 1]}, "frames": 1}')
    with pytest.raises(BundleError, match=r"not finite|no description"):
        read_domain(mine)
    with pytest.raises(DataError, match="no frame"):
        domain_of([])


def test_figures_of_pictures_and_of_what_is_missing():
    grey = np.full((64, 64, 3), 51, np.uint8)
    damaged = CameraImage(0, jpeg=b"\xff\xd8 no picture")
    seen = scene_figures(Snapshot(0, "A", cameras={"CAM_A": CameraImage(0, pixels=grey), "CAM_B": damaged}))
    assert seen == {"camera_light": pytest.approx(0.2), "camera_contrast": 0.0}
    assert scene_figures(Snapshot(0, "A")) == {}


@pytest.fixture(scope="module")
def drives():
    """Frames of two simulated drives, with two cameras each."""
    spec = DriveSpec(image_width_px=192, lidar_hz=10, camera_hz=10, radar_hz=10)
    found = []
    for seed in (11, 12):
        drive, sync = Drive(seed, 1.3, spec), Synchroniser(PerceptionParams())
        made = [sync.add(name, m, m.stamp_ns) for name, m in drive.measurements()]
        frames = [s for s in made if s is not None and s.reference == "LIDAR_TOP"]
        found.append((drive.rig, [replace(s, cameras=dict(sorted(s.cameras.items())[:2])) for s in frames[1:]]))
    return found


def test_rain_on_a_drive_that_no_domain_has_seen_is_told_from_clear_air(drives):
    def figures(drive, *weathers):
        rig, frames = drive
        return [
            scene_figures(apply_to_snapshot(f, rig, Weather.parse(w), i))
            for w in weathers
            for i, f in enumerate(frames)
        ]

    domains = {
        "default": domain_of(figures(drives[0], "clear")),
        "rain": domain_of(figures(drives[0], "rain=40", "rain=80")),
    }
    for weather, wanted in (("clear", "default"), ("rain=60", "rain")):
        router = AdapterRouter(domains, PARAMS, "rain" if wanted == "default" else "default")
        assert choices(router, figures(drives[1], weather) * 3)[-1] == wanted, weather
