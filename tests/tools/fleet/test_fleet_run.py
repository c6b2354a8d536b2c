# SPDX-License-Identifier: Apache-2.0
"""Fleet runs on a real Ray cluster: boxes as in one run, nothing lost, nothing twice, only what is missing again."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_tools.fleet import running
from peft_dml_tools.fleet.detection import folder_of
from peft_dml_tools.fleet.drives import FleetDrive, expand
from peft_dml_tools.fleet.running import FleetRun, summarise
from peft_dml_tools.fleet.storage import ResultStore
from peft_dml_tools.run.files import frame_line
from peft_dml_tools.run.offline import OfflineDetector, chosen_sensors

pytestmark = pytest.mark.alone  # Ray takes all cores


def run(cluster, settings, drives):
    return {outcome.drive.name: outcome for outcome in FleetRun(cluster, settings, drives).outcomes()}


def lines(settings, outcome) -> list[str]:
    store = ResultStore(settings.out)
    content = store.read(f"{folder_of(outcome.drive, outcome.summary['key'])}/boxes.jsonl")
    return content.decode().splitlines(keepends=True)


@pytest.fixture(scope="module")
def done(cluster, drives, bundle, tmp_path_factory):
    from tests.support.fleet import settings as _settings

    settings = _settings(str(tmp_path_factory.mktemp("fleet")), str(bundle), 8.0)
    return settings, run(cluster, settings, expand([str(drives)]))


def test_boxes_of_segments_are_those_of_one_run(done, drives) -> None:
    from peft_dml_tools.datasets.source import open_source

    settings, outcomes = done
    assert outcomes["long"].summary["segments"] == 3
    for name in ("long", "short"):
        source = open_source(drives / f"{name}.mcap")
        offline = OfflineDetector(settings.node_params(), source.rig, chosen_sensors(source.rig, ""))
        assert lines(settings, outcomes[name]) == [frame_line(f) for f in offline.stream(source.measurements())]


def test_figures_of_a_drive(done) -> None:
    _, outcomes = done
    summary = outcomes["long"].summary
    assert summary["frames"] == 260
    assert summary["received"]["LIDAR_TOP"] == 260
    assert summary["sensors"]["LIDAR_TOP"] == {}
    assert 25 < summary["seconds"] < 26


def test_boxes_as_parquet(done) -> None:
    from pyarrow import parquet

    settings, outcomes = done
    boxes = sum(len(json.loads(line)["boxes"]) for line in lines(settings, outcomes["short"]))
    key = outcomes["short"].summary["key"]
    table = parquet.read_table(f"{settings.out}/{folder_of(outcomes['short'].drive, key)}/boxes.parquet")
    assert table.num_rows == boxes == outcomes["short"].summary["boxes"]


def test_a_damaged_drive_counts_to_its_damage_and_says_so(done) -> None:
    outcome = done[1]["cut"]
    assert outcome.state == "done"
    assert 0 < outcome.summary["frames"] < 40
    assert "damaged or cut off" in outcome.reason


def test_a_second_run_does_nothing_and_a_new_drive_alone(done, cluster, drives, tmp_path, monkeypatch) -> None:
    settings, _ = done
    detected = []
    job = FleetRun(cluster, settings, expand([str(drives)]))
    monkeypatch.setattr(job._detecting, "add", detected.append)
    assert {o.state for o in job.outcomes()} == {"kept"}
    assert not detected
    shutil.copy(drives / "short.mcap", tmp_path / "renamed.mcap")
    again = run(cluster, settings, [FleetDrive(str(drives / "short.mcap")), FleetDrive(str(tmp_path / "renamed.mcap"))])
    assert {name: o.state for name, o in again.items()} == {"short": "kept", "renamed": "same"}
    assert summarise(list(again.values()), 1.0, 2)["frames"] == again["short"].summary["frames"]


def test_results_that_cannot_be_written_end_it_before_the_first_drive(drives, bundle, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("peft_dml_tools.fleet.cluster.connected", lambda *_, **__: pytest.fail("Ray was started"))
    (tmp_path / "file").touch()
    command = ["fleet", "run", drives / "short.mcap", "--bundle", bundle, "--out", tmp_path / "file" / "out"]
    done = CliRunner().invoke(app, list(map(str, command)))
    assert done.exit_code == 2
    assert "Not a directory; fix: check the path" in " ".join(done.output.split())


def test_a_missing_drive_fails_alone(cluster, settings_for, drives, tmp_path) -> None:
    outcomes = run(
        cluster, settings_for(tmp_path), [FleetDrive("/nowhere/x.mcap"), FleetDrive(str(drives / "short.mcap"))]
    )
    assert outcomes["x"].state == "failed"
    assert "does not exist" in outcomes["x"].reason
    assert outcomes["short"].state == "done"


def test_a_torn_seam_is_run_again_with_more_lead(cluster, settings_for, drives, tmp_path, monkeypatch) -> None:
    """A lead of nothing: buffers of sweeps differ at every seam until the lead has grown."""
    monkeypatch.setattr("peft_dml_tools.fleet.segments.LEAD_S", 0.05)
    job = FleetRun(cluster, settings_for(tmp_path), [FleetDrive(str(drives / "long.mcap"))])
    # Segments are planned by the workers, which do not see the patch: plan here and hand them over.
    from peft_dml_tools.fleet.detection import inspect

    found = inspect((job._settings, FleetDrive(str(drives / "long.mcap"))))
    job._inspecting.cancel()
    job._taken[found.key] = found.drive
    job._open[found.key] = running._OpenDrive(found, {s.index for s in found.segments})
    for segment in found.segments:
        job._detecting.add(running.SegmentJob(job._settings, found, segment))
    torn = []
    again = job._again
    monkeypatch.setattr(job, "_again", lambda opened, indices: (torn.append(indices), again(opened, indices)))
    (outcome,) = job.outcomes()
    assert torn
    assert outcome.state == "done"
    assert outcome.summary["frames"] == 260
