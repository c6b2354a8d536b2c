# SPDX-License-Identifier: Apache-2.0
import re
import runpy

import pytest
import yaml

from peft_dml_ros.cli.main import COMMANDS

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
