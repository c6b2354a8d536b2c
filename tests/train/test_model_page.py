# SPDX-License-Identifier: Apache-2.0
"""The page about the model says what the recipes are."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_tables_are_up_to_date():
    made = runpy.run_path(str(ROOT / "docs" / "make_model_tables.py"))
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    assert page == made["fill"](page, made["tables"]()), "run docs/make_model_tables.py"
