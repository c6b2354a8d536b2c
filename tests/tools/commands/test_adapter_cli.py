# SPDX-License-Identifier: Apache-2.0
"""`peft-dml adapter`: each command says what it did, and refuses in one line."""

from shutil import copytree

import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.core.adapter import WEIGHTS
from peft_dml_ros.core.adapter_store import FOLDER_VARIABLE
from peft_dml_ros.core.bundle import ADAPTERS, BASE_WEIGHTS, load_bundle
from tests.support.random_bundle import make_random_adapter, make_random_base, make_random_bundle


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "store"))
    folder = make_random_base(tmp_path / "random")
    make_random_adapter(folder / ADAPTERS / "default", folder, "default")
    return folder


def call(*arguments, code=0):
    done = CliRunner().invoke(app, ["adapter", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def test_an_adapter_goes_through_all_commands(base, tmp_path):
    folder = make_random_adapter(tmp_path / "x", base, "winter", description="Snow on the road", metrics={"nds": 0.5})
    bundle = ("--bundle", base)
    assert "added 'winter' for base random" in call("add", folder, *bundle)
    listed = call("list", *bundle)
    for word in ("default", "bundle", "winter", "vehicle", "Snow on the road"):
        assert word in listed
    shown = call("show", "winter", *bundle)
    for word in ("winter 0.1.0", "'nds': 0.5", "rank 2, alpha 4", "signature: none"):
        assert word in shown
    assert "6 graphs of random merged in" in call("check", "winter", *bundle)
    assert "encoders.radar" in call("diff", "winter", "default", *bundle)
    call("merge", "winter=0.5,default=0.5", *bundle, "--out", tmp_path / "merged")
    assert load_bundle(tmp_path / "merged").manifest.name == "merged"
    assert "removed 'winter'" in call("remove", "winter")
    assert "error: no adapter 'winter'" in call("check", "winter", *bundle, code=2)


def test_a_bundle_without_a_base_says_that_it_takes_none(tmp_path, base):
    folder = make_random_bundle(tmp_path / "merged")
    assert f"takes no adapters: it has no {BASE_WEIGHTS}; models/base has: --bundle base" in call(
        "list", "--bundle", folder
    )
    assert "takes no adapters" not in call("list", "--bundle", base)
    assert "take a bundle with a base, e.g. models/base" in call("check", "winter", "--bundle", folder, code=2)


def test_signing_a_bundle_signs_its_adapters(base, tmp_path):
    pytest.importorskip("minisign")
    done = CliRunner().invoke(app, ["bundle", "keygen", str(tmp_path / "key")])
    key = done.output.split()[-1]
    assert CliRunner().invoke(app, ["bundle", "sign", str(base), "--key", str(tmp_path / "key")]).exit_code == 0
    assert str(load_bundle(base, key).adapters) == "default"
    assert "signed, and verified" in call("show", "default", "--bundle", base, "--key", key)
    other = make_random_adapter(tmp_path / "x", base, "winter")
    assert "is not signed" in call("add", other, "--bundle", base, "--key", key, code=2)
    call("sign", other, "--key", tmp_path / "key")
    (damaged := copytree(other, tmp_path / "damaged") / WEIGHTS).write_bytes(b"x")
    damaged.with_name("adapter.json.minisig").unlink()
    assert "was altered" in call("sign", damaged.parent, "--key", tmp_path / "key", code=2)
    assert not damaged.with_name("adapter.json.minisig").exists()
    assert "added" in call("add", other, "--bundle", base, "--key", key)


def test_a_name_that_the_bundle_has_is_not_added_and_a_damaged_one_is_listed_as_that(base, tmp_path):
    folder = make_random_adapter(tmp_path / "x", base, "default")
    refused = call("add", folder, "--bundle", base, code=2)
    assert "random comes with an adapter 'default', which that name stands for; fix: " in refused
    call("add", make_random_adapter(tmp_path / "y", base, "winter"), "--bundle", base)
    (name,) = (tmp_path / "store" / "names").glob("*/winter")
    name.write_text("")
    listed = call("list", "--bundle", base)
    assert "default" in listed
    assert "winter" in listed
    assert "damaged" in listed
