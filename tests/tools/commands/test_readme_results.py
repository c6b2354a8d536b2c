# SPDX-License-Identifier: Apache-2.0
import runpy

from peft_dml_tools.evaluation.metrics import evaluate


def test_results_of_a_demo_fit_into_the_readme(repository, recording):
    results = evaluate(recording)
    script = runpy.run_path(str(repository / "docs" / "make_results.py"))
    text = script["section"](results.metrics, results.scores, 2)
    assert "20 (20 due), 5 of them without LiDAR" in text
    readme = script["fill"]((repository / "README.md").read_text(encoding="utf-8"), text)
    assert readme.count(text) == 1
    assert script["fill"](readme, text) == readme
    assert len(readme.splitlines()) <= 120
