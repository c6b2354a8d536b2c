# SPDX-License-Identifier: Apache-2.0
import runpy

from peft_dml_tools.evaluation.metrics import evaluate
from peft_dml_tools.markdown_pages import fill_section


def test_results_of_a_demo_fit_into_the_readme(repository, recording):
    results = evaluate(recording)
    script = runpy.run_path(str(repository / "docs" / "make_results.py"))
    text = script["section"](results.metrics, results.scores, {"cores": 2, "processor": "a made-up processor"})
    assert "20 (20 due), 5 of them without LiDAR" in text
    assert "on 2 cores of a made-up processor" in text
    marks = script["BEGIN"], text, script["END"]
    readme = fill_section((repository / "README.md").read_text(encoding="utf-8"), *marks)
    assert readme.count(text) == 1
    assert fill_section(readme, *marks) == readme
    assert len(readme.splitlines()) <= 120
