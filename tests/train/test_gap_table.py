# SPDX-License-Identifier: Apache-2.0
"""The table of domain gaps says what was gained, and where no adapter was written."""

import json

from peft_dml_train.few_shot.gap_table import gap_rows


def test_rows_show_gains_and_adapters_that_were_not_written(tmp_path):
    for gap, name, score in (
        ("rain", "labelled-default", 0.4),
        ("rain", "labelled-labelled", 0.45),
        ("rain", "unlabelled-default", 0.2),
        ("city", "labelled-default", 0.3),
    ):
        folder = tmp_path / gap / "scores" / name
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(
            json.dumps({"clear": {"subset": {"mean_ap": score, "nd_score": score + 0.1}}})
        )
    assert list(gap_rows(tmp_path))[2:] == [
        "| city | labelled | all sensors | 0.300; no gain, not written | 0.400; no gain, not written |",
        "| rain | labelled | all sensors | 0.400 to 0.450 | 0.500 to 0.550 |",
        "| rain | unlabelled | no LiDAR | 0.200; no gain, not written | 0.300; no gain, not written |",
    ]
