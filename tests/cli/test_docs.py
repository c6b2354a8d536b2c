# SPDX-License-Identifier: Apache-2.0
import re
import runpy

import pytest
import yaml

from peft_dml_ros.cli.main import COMMANDS
from peft_dml_ros.cli.metrics import evaluate

PAGES = ("README.md", "docs/index.md", "docs/quickstart.md", "docs/concepts.md", "CONTRIBUTING.md")


def test_parameter_page_is_up_to_date(repository):
    made = runpy.run_path(str(repository / "docs" / "make_parameters.py"))["table"]()
    assert (repository / "docs" / "parameters.md").read_text(encoding="utf-8") == made, "run docs/make_parameters.py"


def test_site_lists_pages_that_exist(repository):
    site = yaml.safe_load((repository / "mkdocs.yml").read_text())
    for entry in site["nav"]:
        for page in entry.values():
            assert (repository / "docs" / page).is_file(), page


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(repository, page):
    folder = (repository / page).parent
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (repository / page).read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (folder / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_docs_exist(repository, page):
    text = (repository / page).read_text(encoding="utf-8")
    for name in re.findall(r"peft-dml ([a-z]+)", text):
        assert name in {*COMMANDS, "version"}, f"{page}: peft-dml {name}"


def test_readme_is_short(repository):
    assert len((repository / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_results_of_a_demo_fit_into_the_readme(repository, recording):
    results = evaluate(recording)
    script = runpy.run_path(str(repository / "docs" / "make_results.py"))
    text = script["section"](results.metrics, results.scores, 2)
    assert "20 (20 due), 5 of them without LiDAR" in text
    readme = script["fill"]((repository / "README.md").read_text(encoding="utf-8"), text)
    assert readme.count(text) == 1
    assert script["fill"](readme, text) == readme
    assert len(readme.splitlines()) <= 120
