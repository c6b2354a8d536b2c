# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import pytest
from typer.testing import CliRunner

from peft_dml_ros.core.errors import ConfigError
from peft_dml_tools.bench.data import QUICK, BenchmarkPlan, DataBenchmark
from peft_dml_tools.commands.bench import bench

TOP = ("simulate_s_per_scene", "simulate_peak_mb", "read_ms_per_sample", "export_s_per_scene", "export_peak_mb")


@pytest.fixture(scope="module")
def measured(tmp_path_factory, repository):
    """One quick run, its working folder kept."""
    folder = tmp_path_factory.mktemp("quick")
    said = []
    benchmark = DataBenchmark(QUICK, folder / "work", repository, None, said.append)
    return benchmark, benchmark.run(), said, repository


def test_every_stage_has_figures(measured):
    _, figures, said, _ = measured
    assert all(figures[key] > 0 for key in TOP)
    assert len(said) == len(set(said)) == 8
    (row,) = figures["by_scenes"]
    assert row["corrupt"]["by_effect_ms"].keys() >= {"fog=50", "rain=25", "motionblur", "radar_spurious_points"}
    assert row["export"]["bag_mb"] > 5
    assert row["read"]["samples"] == 3
    assert figures["realism"]["frames"] == 3
    assert figures["machine"]["cores"] >= 1
    json.dumps(figures)


def test_a_run_goes_on_where_it_was(measured, tmp_path):
    benchmark, figures, _, repository = measured
    again = []
    folder = shutil.copytree(benchmark.folder, tmp_path / "work")
    notes = json.loads((folder / "notes.json").read_text())
    notes["origin"] = json.loads((benchmark.folder / "notes.json").read_text())["origin"]
    del notes["stages"]["read length-1.5"]
    (folder / "notes.json").write_text(json.dumps(notes))
    resumed = DataBenchmark(QUICK, folder, repository, None, again.append).run()
    assert again == ["read length-1.5"]
    assert resumed["by_scenes"] == figures["by_scenes"]


def test_another_plan_begins_anew_and_a_strange_folder_is_left_alone(tmp_path, repository):
    work = tmp_path / "work"
    first = DataBenchmark(QUICK, work, repository, None, print)
    (work / "scenes-1").mkdir()
    DataBenchmark(BenchmarkPlan(), work, repository, None, print)
    assert not (work / "scenes-1").exists()
    first.clear()
    assert not work.exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="holds files of something else; fix: "):
        DataBenchmark(QUICK, mine, repository, None, print)
    assert (mine / "thesis.txt").is_file()


def test_help_names_the_benchmark():
    assert "data" in CliRunner().invoke(bench, ["--help"]).output
