# SPDX-License-Identifier: Apache-2.0
"""Cells won are counted against both baselines, on shared seeds; one baseline that is better loses the cell."""

import json

import pytest

from peft_dml_evidence.baseline_cells import CORRUPTED, NOISY, WEATHER
from peft_dml_evidence.cells import KEY_SEEDS
from peft_dml_evidence.report import baseline_comparison as against
from peft_dml_evidence.report.results import load
from peft_dml_evidence.report.summary import summary_of, targets
from tests.evidence.test_experiments_report import figures, write  # noqa: F401

CLEAN = 0.5


@pytest.fixture
def cells(write):  # noqa: F811
    """Write PEFT-DML's and both baselines' cells under noise: by baseline, NDS as a function of the look's number."""

    def one(proposed, theirs, seeds=KEY_SEEDS, averaging=lambda _: 0.2):
        for seed in seeds:
            luck = 0.01 * (seed - 8)
            kinds = (
                ("robustness", "", proposed),
                ("baselines", "zero_filled_", theirs),
                ("baselines", "averaging_", averaging),
            )
            for command, prefix, nds in kinds:
                scores = {look: {"all": figures(nds(i) + luck)} for i, look in enumerate(NOISY)}
                write(command, f"{prefix}multicorrupt_radar", seed, {"clear": {"all": figures(CLEAN + luck)}, **scores})
        return load(write.folder)[0]

    return one


def claim(results):
    return next(t for t in targets(results) if "no baseline is better" in t.claim)


def test_a_cell_is_won_against_both(cells):
    results = cells(lambda _: 0.4, lambda i: 0.41 if i < 4 else 0.3)
    assert against.won(results, NOISY).value == 26
    assert claim(results).verdict == "holds"
    assert summary_of(results)["cells_won"] == 26
    results = cells(lambda _: 0.4, lambda i: 0.41 if i < 4 else 0.3, averaging=lambda i: 0.45 if i > 27 else 0.1)
    assert against.won(results, NOISY).value == 24, "the second baseline takes two more"
    assert claim(results).verdict == "missed"
    assert against.headline(results) == "Neither baseline is better under a noisy radar in 24.0 of 30 cells."


def test_only_shared_seeds_count_and_a_missing_cell_leaves_it_open(cells, write):  # noqa: F811
    results = cells(lambda _: 0.4, lambda _: 0.3, seeds=(7,))
    assert claim(results).verdict == "undecided", "one seed decides nothing"
    assert against.won(results, CORRUPTED) is None
    path = write.folder / "baselines" / "averaging_multicorrupt_radar.tiny.s7.json"
    record = json.loads(path.read_text())
    del record["scores"][NOISY[3]]
    path.write_text(json.dumps(record))
    assert against.won(load(write.folder)[0], NOISY) is None


def test_the_baselines_resistance_is_their_own(cells):
    results = cells(lambda _: 0.4, lambda _: 0.25)
    found = summary_of(results)
    assert found["mra"] == pytest.approx(0.4 / CLEAN, abs=1e-3)
    assert found["mra_zero_filled"] == pytest.approx(0.25 / CLEAN, abs=5e-3)
    rows = against.corrupted(results)
    assert any(row.startswith("| `fog`, radar noise | 0.400 | 0.250 | 0.200 | 3.0 of 3 |") for row in rows)
    assert sum(look in "".join(against.weather(results)) for look in WEATHER) == len(WEATHER)
