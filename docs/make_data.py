# SPDX-License-Identifier: Apache-2.0
"""Fills the tables of docs/data.md from the code that they describe: `python docs/make_data.py`."""

from pathlib import Path

from peft_dml_ros.conversions import presets, topics
from peft_dml_ros.core.spec import CameraSpec
from peft_dml_tools.datasets.checks import RULES
from peft_dml_tools.datasets.renaming import renamer
from peft_dml_tools.markdown_pages import fill_section, markdown_table
from peft_dml_tools.sim.faults import FIELDS, KINDS, MEANING, Fault

PAGE = Path(__file__).with_name("data.md")


def rules() -> str:
    """Return every rule of `dataset check`."""
    rows = sorted((rule.id, rule.severity.value, rule.title, rule.fix) for rule in RULES.values())
    return markdown_table(("rule", "severity", "what must hold", "fix"), rows)


def faults() -> str:
    """Return every kind of fault."""
    rows = ((f"`{kind}`", MEANING[kind], ", ".join(f"`{f}`" for f in FIELDS[kind])) for kind in KINDS)
    return markdown_table(("fault", "what happens", "takes"), rows)


def fields() -> str:
    """Return every field of an entry of a fault script."""
    rows = []
    for name, info in Fault.model_fields.items():
        default = "needed" if info.is_required() else f"`{info.default}`" if info.default != "" else ""
        rows.append((f"`{name}`", default.replace("inf", "the end"), info.description))
    return markdown_table(("field", "default", "meaning"), rows)


def names() -> str:
    """Return topics by preset."""
    sensors = ("LIDAR_TOP", "RADAR_FRONT", CameraSpec().cameras[0], "IMU", "GNSS", "ODOM")
    kinds = (presets.DEFAULT, *presets.PRESETS)
    rows = ((s, *(f"`{renamer(kind)(topics.topic_of(s))}`" for kind in kinds)) for s in sensors)
    return markdown_table(("", *(f"`{kind}`" for kind in kinds)), rows)


def fill(page: str) -> str:
    """Return the page with its tables replaced."""
    for name, table in (("rules", rules()), ("faults", faults()), ("fields", fields()), ("topics", names())):
        page = fill_section(page, f"<!-- {name}: made by docs/make_data.py -->", table, f"<!-- end of {name} -->")
    return page


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
