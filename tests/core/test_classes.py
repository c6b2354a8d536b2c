# SPDX-License-Identifier: Apache-2.0
"""Every class stands in every table that a class needs; docs/cookbook.md lists them under "A new class"."""

from pathlib import Path

import pytest

from peft_dml_ros.conversions.autoware import KINDS
from peft_dml_ros.core.boxes import NMS_RADIUS_M
from peft_dml_ros.core.classes import ATTRIBUTES_OF_CLASS, CLASS_COLOURS, CLASSES
from peft_dml_ros.core.tracking import motion
from peft_dml_tools.datasets.bag_recording import CATEGORY_OF_CLASS
from peft_dml_tools.datasets.nuscenes_truth import CLASS_OF_CATEGORY, class_of_category
from peft_dml_tools.sim.actors import CLASS_STATISTICS

CODE = {"core": "peft_dml_ros", "conversions": "peft_dml_ros", "datasets": "peft_dml_tools", "sim": "peft_dml_tools"}


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("ATTRIBUTES_OF_CLASS", ATTRIBUTES_OF_CLASS),
        ("CLASS_COLOURS", CLASS_COLOURS),
        ("NMS_RADIUS_M", NMS_RADIUS_M),
        ("GROUPS of core/tracking/motion.py", [name for group in motion.GROUPS for name in group.classes]),
        ("KINDS", KINDS),
        ("CLASS_OF_CATEGORY", CLASS_OF_CATEGORY.values()),
        ("CATEGORY_OF_CLASS", CATEGORY_OF_CLASS),
        ("CLASS_STATISTICS", CLASS_STATISTICS),
    ],
)
def test_every_class_is_in_the_table(table, names):
    assert set(names) == set(CLASSES), table


def test_every_class_is_in_the_head():
    center = pytest.importorskip("peft_dml_train.head.center")
    assert set(center.TYPICAL_SIZE_M) == set(CLASSES)
    assert {name for group in center.GROUPS for name in group} == set(CLASSES)


def test_categories_lead_back_to_their_class():
    assert all(class_of_category(category) == name for name, category in CATEGORY_OF_CLASS.items())


def test_the_cookbook_names_files_that_there_are(repository):
    steps = (repository / "docs" / "cookbook.md").read_text().partition("## A new class")[2].partition("\n## ")[0]
    files = [word for word in steps.split("`")[1::2] if word.endswith(".py") and " " not in word]
    assert len(files) > 8
    for name in files:
        assert (repository / CODE.get(Path(name).parts[0], "") / name).is_file(), name
