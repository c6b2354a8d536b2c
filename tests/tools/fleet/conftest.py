# SPDX-License-Identifier: Apache-2.0
"""Short drives, a bundle without training, and one local Ray cluster for all tests of the fleet."""

from pathlib import Path

import pytest

pytest.importorskip("ray", reason="fleet jobs need Ray: pip install 'peft_dml_ros[fleet]'")

from peft_dml_tools.fleet.cluster import connected
from tests.support.drive_bag import make_drive_bag
from tests.support.fleet import settings as _settings
from tests.support.random_bundle import make_random_bundle

MEMORY_MB = 500


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    return make_random_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def drives(tmp_path_factory) -> Path:
    """Three bags: a long one, a short one, and one that was cut off in the middle."""
    folder = tmp_path_factory.mktemp("drives")
    make_drive_bag(folder / "long.mcap", 26_000, 300)
    make_drive_bag(folder / "short.mcap", 2_000, 400)
    whole = make_drive_bag(folder / "cut.mcap", 4_000, 6000)  # large enough for several chunks
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return folder


@pytest.fixture(scope="session")
def cluster():
    with connected("local", MEMORY_MB, 2) as found:
        yield found


@pytest.fixture
def settings_for(bundle):
    return lambda out, segment_s=8.0: _settings(str(out), str(bundle), segment_s)
