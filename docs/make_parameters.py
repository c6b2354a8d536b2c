# SPDX-License-Identifier: Apache-2.0
"""Writes docs/parameters.md from the one place where parameters are defined: `python docs/make_parameters.py`."""

from pathlib import Path

from peft_dml_ros.core.params import describe
from peft_dml_ros.nodes.parameter_file import MODEL_PARAMETERS, READ_ONLY, NodeParams
from peft_dml_tools.markdown_pages import markdown_table

HEAD = """# Parameters

Made by `python docs/make_parameters.py` from `core/params.py` and `nodes/parameter_file.py`; do not edit by hand.
The same definitions give `config/perception.yaml` and what `ros2 param describe` shows.

An unknown name or a value outside its range is refused at start, with the nearest known name; all mistakes at once.

A value that is set while the node runs acts **at once**, on the next frame; or a **model** is loaded in the background
and taken over between two frames; or it waits for the next **configure**; or it counts at the **start** alone.
"""


def page() -> str:
    """Return the whole page."""
    rows = []
    for info in describe(NodeParams):
        low, high = ("" if bound is None else f"{bound:g}" for bound in (info.minimum, info.maximum))
        span = f"{low} to {high}" if low or high else ", ".join(f"`{choice}`" for choice in info.choices)
        default = "all of the nuScenes names" if info.name == "sensors" else f"`{_shown(info.default)}`"
        rows.append((f"`{info.name}`", default, span, _acts(info.name), info.description))
    table = markdown_table(("parameter", "default", "range or choices", "acts", "meaning"), rows)
    return f"{HEAD}\n{table}\n"


def _acts(name: str) -> str:
    if name in {*READ_ONLY, "autostart"}:
        return "start"
    if name in MODEL_PARAMETERS:
        return "model"
    return "at once" if name.startswith(("detection.", "router.")) else "configure"


def _shown(value: object) -> str:
    return "[]" if value == () else f'"{value}"' if value == "" else str(value)


if __name__ == "__main__":
    Path(__file__).with_name("parameters.md").write_text(page(), encoding="utf-8")
