# SPDX-License-Identifier: Apache-2.0
"""The share of a gap that is closed comes from the right cells, and its word from the interval."""

import json

import pytest

from peft_dml_evidence.cells import KEY_SEEDS
from peft_dml_evidence.gap_cells import GAPS
from peft_dml_evidence.report import gaps
from peft_dml_evidence.report.page import render_summary
from peft_dml_evidence.report.results import load
from peft_dml_evidence.report.summary import summary_of, targets
from tests.evidence.test_experiments_report import DATA, figures

RAIN = next(gap for gap in GAPS if gap.name == "rain")


@pytest.fixture
def results(tmp_path):
    """Write made-up cells, and read them: NDS by seed, each seed with luck of its own."""

    def write(cells, recipe="near"):
        for (cell, seeds), nds in cells.items():
            for seed in seeds:
                luck = {7: 0.05, 8: 0.0, 9: -0.05}[seed]
                by_scene = {f"scene-{i}": nds + luck + 0.1 * (i % 3) for i in range(6)}
                record = {
                    "command": "domains", "cell": cell, "config": recipe, "seed": seed, "commit": "0123456789",
                    "data": DATA, "cpu_s": 60.0, "finished": "2026-11-27", "training": {},
                    "scores": {"clear": {"all": figures(nds + luck)}}, "scenes": {"clear": {"all": by_scene}},
                }  # fmt: skip
                path = tmp_path / "domains" / f"{cell}.{recipe}.s{seed}.json"
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(record))
        return next(r for r in load(tmp_path) if r.config == recipe)

    return write


def test_the_share_closed_is_of_shared_seeds(results):
    found = results({
        ("rain_none", KEY_SEEDS): 0.30, ("rain_full_all", KEY_SEEDS): 0.40, ("rain_peft_all", KEY_SEEDS): 0.398,
        ("rain_full_8", KEY_SEEDS): 0.35, ("rain_peft_8", KEY_SEEDS): 0.34,
    })  # fmt: skip
    share = gaps.closed(found, RAIN)
    assert share.value == pytest.approx(0.98)
    assert share.low == pytest.approx(0.98) == share.high, "luck of seeds and scenes is on both sides"
    assert gaps.verdict(found, RAIN) == "holds"
    assert gaps.closed(found, RAIN, 8).value == pytest.approx(0.8)
    assert gaps.verdict(found, RAIN, 8) == "missed"
    assert gaps.headline(found).count("rain with") == 2
    assert set(gaps.gap_closed(found)) == {"rain"}
    claims = {t.claim: t.verdict for t in targets(found) if "rain" in t.claim}
    assert [word for claim, word in claims.items() if claim.startswith("Share")] == ["holds", "missed"]
    assert [word for claim, word in claims.items() if "less that of full" in claim] == ["missed", "missed"]
    key = summary_of(found)
    assert key["gap_closed"] == {"rain": {"all": pytest.approx(0.98), "s8": pytest.approx(0.8)}}
    assert key["gap_closed_interval"]["rain"]["all"] == [pytest.approx(0.98), pytest.approx(0.98)]


def test_mixing_seeds_would_turn_the_verdict_round(results):
    """Only the lucky seed of PEFT was run: its share is its own, not that of the means of three."""
    found = results({
        ("rain_none", KEY_SEEDS): 0.30, ("rain_full_all", KEY_SEEDS): 0.40, ("rain_peft_all", (7,)): 0.36,
    })  # fmt: skip
    mixed = (0.36 + 0.05 - 0.30) / (0.40 - 0.30)
    assert mixed > 1.0
    assert gaps.closed(found, RAIN).value == pytest.approx(0.6)


def test_gaps_of_another_base_are_named_with_their_recipe(results):
    gained = {("rain_none", KEY_SEEDS): 0.30, ("rain_full_all", KEY_SEEDS): 0.40}
    near = results({**gained, ("rain_peft_all", KEY_SEEDS): 0.39})
    other = results({**gained, ("rain_peft_all", KEY_SEEDS): 0.36}, "one_town")
    key = json.loads(render_summary([near, other]))
    assert {gap: by["all"] for gap, by in key["gap_closed"].items()} == {"rain": 0.9, "one_town.rain": 0.6}
    assert set(key["gap_closed_interval"]) == set(key["gap_closed"])


def test_where_full_fine_tuning_gains_nothing_there_is_no_gap(results):
    found = results({
        ("rain_none", KEY_SEEDS): 0.30, ("rain_full_all", KEY_SEEDS): 0.29, ("rain_peft_all", KEY_SEEDS): 0.32,
    })  # fmt: skip
    assert gaps.verdict(found, RAIN).startswith("no gap to close")
    assert any("no gap to close" in line for line in gaps.closing(found))


def test_what_is_forgotten_is_measured_on_the_source(results):
    found = results({
        ("rain_none_source", KEY_SEEDS): 0.45, ("rain_peft_all_source", KEY_SEEDS): 0.42,
    })  # fmt: skip
    assert gaps.forgotten(found, RAIN).value == pytest.approx(0.03)
    assert summary_of(found)["forgotten"] == {"rain": pytest.approx(0.03)}
