# SPDX-License-Identifier: Apache-2.0
"""The vehicle's adapters: added whole or not at all, found by name, and removed with what nobody else needs."""

import errno
import json
import shutil

import pytest

from peft_dml_ros.core.adapter import CARD, WEIGHTS
from peft_dml_ros.core.adapter_store import FOLDER_VARIABLE, stored_adapters
from peft_dml_ros.core.bundle import load_bundle
from peft_dml_ros.core.errors import BundleError
from peft_dml_tools.bundles import adapter_changes
from peft_dml_tools.bundles.adapter_changes import add_adapter, remove_adapter
from peft_dml_tools.bundles.signing import make_keys, sign
from tests.support.random_bundle import make_random_adapter, make_random_base


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_random_base(tmp_path_factory.mktemp("base") / "random")


def digest(base):
    return load_bundle(base, adapter="none").manifest.base["sha256"]


def files(store):
    return {path.relative_to(store): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_an_added_adapter_is_found_by_its_name_until_it_is_removed(base, tmp_path, store):
    folder = make_random_adapter(tmp_path / "x", base, "winter")
    assert add_adapter(folder, digest(base), "random").card.name == "winter"
    shutil.rmtree(folder)
    assert str(load_bundle(base, adapter="winter").adapters) == "winter"
    assert [s.name for s in stored_adapters()] == ["winter"]
    with pytest.raises(BundleError, match=r"no adapter 'wnter'.*did you mean 'winter'"):
        remove_adapter("wnter")
    remove_adapter("winter")
    assert files(store) == {}
    with pytest.raises(BundleError, match="no adapter 'winter'"):
        load_bundle(base, adapter="winter")


def test_equal_adapters_share_their_files_and_a_newer_one_takes_the_name(base, tmp_path, store):
    folder = make_random_adapter(tmp_path / "x", base, "winter")
    for _ in range(2):
        add_adapter(folder, digest(base), "random")
    assert len(list((store / "objects").iterdir())) == 1
    old = load_bundle(base, adapter="winter").identity
    add_adapter(make_random_adapter(tmp_path / "y", base, "winter", bias=2.0), digest(base), "random")
    assert len(list((store / "objects").iterdir())) == 2
    assert load_bundle(base, adapter="winter").identity != old


def test_adding_again_brings_a_signature_made_since_and_replaces_what_was_damaged(base, tmp_path, store):
    pytest.importorskip("minisign")
    folder = make_random_adapter(tmp_path / "x", base, "winter")
    add_adapter(folder, digest(base), "random")
    key = make_keys(tmp_path / "key").to_base64().decode()
    sign(folder / CARD, tmp_path / "key")
    assert add_adapter(folder, digest(base), "random", key).card.name == "winter"
    (stored,) = (store / "objects").iterdir()
    (stored / WEIGHTS).write_bytes(b"x")
    assert add_adapter(folder, digest(base), "random", key).card.name == "winter"
    assert [path.name for path in (store / "objects").iterdir()] == [stored.name]


def test_a_disk_that_fills_leaves_what_was_there(base, tmp_path, store, monkeypatch):
    add_adapter(make_random_adapter(tmp_path / "x", base, "winter"), digest(base), "random")
    before = files(store)
    other = make_random_adapter(tmp_path / "y", base, "summer")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("copytree", "rename", "fsync"):
        with monkeypatch.context() as context:
            target = {"copytree": adapter_changes.shutil, "fsync": adapter_changes.os}.get(step, adapter_changes.Path)
            context.setattr(target, step, full)
            with pytest.raises(BundleError, match=r"cannot be stored in .*No space left on device.*as it was"):
                add_adapter(other, digest(base), "random")
        assert files(store) == before
    assert add_adapter(other, digest(base), "random")


def test_what_is_refused_is_not_stored(base, tmp_path, store):
    folder = make_random_adapter(tmp_path / "x", base, "winter")
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"base": "0" * 64}))
    with pytest.raises(BundleError, match="belongs to base"):
        add_adapter(folder, digest(base), "random")
    assert not store.exists()


@pytest.mark.parametrize("left", ["", "../names", "0" * 64])
def test_a_name_that_lost_its_digest_is_refused_and_removing_it_leaves_the_others(base, tmp_path, store, left):
    add_adapter(make_random_adapter(tmp_path / "x", base, "winter"), digest(base), "random")
    before = files(store)
    (store / "names" / digest(base)[:16] / "summer").write_text(left)
    with pytest.raises(BundleError, match=r"is no adapter of schema 1: adapter.json: No such file.*; fix:"):
        load_bundle(base, adapter="summer")
    remove_adapter("summer")
    assert files(store) == before


def test_a_name_of_the_bundle_s_own_is_refused(base, tmp_path, store):
    folder = make_random_adapter(tmp_path / "x", base, "rain")
    with pytest.raises(BundleError, match=r"random comes with an adapter 'rain'.*; fix: "):
        add_adapter(folder, digest(base), "random", taken=["rain"])
    assert not store.exists()


def test_a_name_of_another_base_is_said_to_be_that(base, tmp_path, store):
    add_adapter(make_random_adapter(tmp_path / "x", base, "winter"), digest(base), "random")
    with pytest.raises(BundleError, match=rf"no adapter 'winter' of base 00 in .*of bases {digest(base)[:16]}; fix: "):
        remove_adapter("winter", "00")
