# SPDX-License-Identifier: Apache-2.0
"""Results on local folders and on an S3 server that runs on this machine."""

import os

import pytest

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.fleet.drives import FleetDrive, expand, scene_files
from peft_dml_tools.fleet.storage import MARKER, ResultStore, content_digest, fetched

moto_server = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def s3():
    """An S3 server; s3fs finds it by the environment."""
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    names = {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("fleet")
    yield "s3://fleet"
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
    server.stop()


@pytest.fixture(params=["local", "s3"])
def root(request, tmp_path):
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3") + f"/{tmp_path.name}"


def test_a_result_is_there_with_its_marker_only(root) -> None:
    store = ResultStore(root)
    with store.workspace() as folder:
        (folder / "r").mkdir()
        (folder / "r" / "boxes.jsonl").write_text("{}\n")
        assert store.result("drives/a") is None
        (folder / "r" / MARKER).write_text('{"frames": 1}')
        store.publish("drives/a", folder / "r")
    assert store.result("drives/a") == {"frames": 1}
    assert store.read("drives/a/boxes.jsonl") == b"{}\n"
    assert store.names("drives/a") == ["boxes.jsonl", MARKER]
    store.remove("drives/a")
    assert store.result("drives/a") is None


def test_a_marker_cut_short_is_no_result(root) -> None:
    store = ResultStore(root)
    store.write(f"drives/a/{MARKER}", b'{"frames"')
    assert store.result("drives/a") is None


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch) -> None:
    store = ResultStore(str(tmp_path))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        store.write("drives/a/boxes.jsonl", b"x")
    assert store.read("drives/a/boxes.jsonl") is None


def test_sources_expand_alike_on_disk_and_in_a_bucket(root, drives, tmp_path) -> None:
    import fsspec

    fs, path = fsspec.core.url_to_fs(f"{root}/in")
    fs.makedirs(path, exist_ok=True)
    for bag in drives.glob("*.mcap"):
        fs.put_file(str(bag), f"{path}/{bag.name}")
    found = expand([f"{root}/in", f"{root}/in/s*.mcap"])
    assert [drive.name for drive in found] == ["cut", "long", "short"]
    with fetched(found[2].place) as bag:
        assert bag.read_bytes() == (drives / "short.mcap").read_bytes()


def test_the_digest_is_that_of_the_content(root) -> None:
    store = ResultStore(root)
    store.write("a.mcap", b"one")
    first = content_digest(f"{root}/a.mcap")
    store.write("a.mcap", b"two")
    assert content_digest(f"{root}/a.mcap") != first


def test_what_is_no_drive_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match="no drive found; fix: name a bag"):
        expand([str(tmp_path)])
    with pytest.raises(DataError, match="does not exist"), fetched("memory://nowhere/x.mcap"):
        pass


def test_names() -> None:
    assert FleetDrive("s3://b/night/one.mcap").name == "one"
    assert FleetDrive("/data/nuscenes", "scene-0061").label == "/data/nuscenes:scene-0061"
    assert FleetDrive("/data/nuscenes", "scene-0061", "v1.0-mini").label == "/data/nuscenes/v1.0-mini:scene-0061"


def test_one_of_several_versions_is_taken_where_it_is_named(root, miniature) -> None:
    import fsspec

    fs, path = fsspec.core.url_to_fs(f"{root}/set")
    (tables,) = miniature.glob("v*/scene.json")
    for version in ("v1.0-mini", "v1.0-trainval"):
        for file in tables.parent.glob("*.json"):
            fs.makedirs(f"{path}/{version}", exist_ok=True)
            fs.put_file(str(file), f"{path}/{version}/{file.name}")
    with pytest.raises(DataError, match=r"set holds 2 versions; fix: name one: .*set/v1.0-mini or "):
        expand([f"{root}/set"])
    drive, *_ = expand([f"{root}/set/v1.0-mini"])
    assert (drive.place, drive.version) == (f"{root}/set", "v1.0-mini")
    files = scene_files(drive)
    assert "v1.0-mini/sample.json" in files
    assert not any(name.startswith("v1.0-trainval") for name in files)
