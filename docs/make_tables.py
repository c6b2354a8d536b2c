# SPDX-License-Identifier: Apache-2.0
"""Fills the tables of this folder's pages that the code itself defines: `python docs/make_tables.py`.

Those of engines.md come from files that TensorRT for RTX has made: the verdicts by `python -m
peft_dml_train.export.operator_probes`, the builds by `python -m peft_dml_train.export.engine_builds`.
"""

import json
from itertools import groupby
from pathlib import Path

from peft_dml_ros.conversions import presets
from peft_dml_ros.conversions.topics import topic_of
from peft_dml_ros.core.params import describe
from peft_dml_ros.core.spec import CameraSpec
from peft_dml_ros.nodes.parameter_file import MODEL_PARAMETERS, READ_ONLY, NodeParams
from peft_dml_tools.commands.doctor import machine, system  # noqa: F401  they register their rules
from peft_dml_tools.commands.doctor.rules import RULES as DOCTOR
from peft_dml_tools.datasets.checks import RULES as DATA
from peft_dml_tools.datasets.renaming import renamer
from peft_dml_tools.markdown_pages import fill_section, markdown_table
from peft_dml_tools.node_interface import inputs, outputs
from peft_dml_tools.sim.faults import FIELDS, KINDS, MEANING, Fault

DOCS = Path(__file__).parent
OPERATORS = DOCS.parent / "train" / "peft_dml_train" / "export" / "operator_table.json"
BUILDS = DOCS.parent / "bench" / "engine_builds.json"
TYPES = ("float", "float16", "int32", "int64", "bool", "uint8", "int8")
SIGNS = {"builds": "yes", "refused": "no", "parses, does not build": "parses only"}


def rules() -> str:
    """Return every rule of `dataset check`."""
    rows = sorted((rule.id, rule.severity.value, rule.title, rule.fix) for rule in DATA.values())
    return markdown_table(("rule", "severity", "what must hold", "fix"), rows)


def doctor() -> str:
    """Return every rule of the doctor."""
    rows = [(name, rule.severity.value, rule.title) for name, rule in sorted(DOCTOR.items())]
    return markdown_table(("id", "severity", "what must hold"), rows)


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
    rows = ((s, *(f"`{renamer(kind)(topic_of(s))}`" for kind in kinds)) for s in sensors)
    return markdown_table(("", *(f"`{kind}`" for kind in kinds)), rows)


def parameters() -> str:
    """Return every parameter of the node."""
    rows = []
    for info in describe(NodeParams):
        low, high = ("" if bound is None else f"{bound:g}" for bound in (info.minimum, info.maximum))
        span = f"{low} to {high}" if low or high else ", ".join(f"`{choice}`" for choice in info.choices)
        empty = {(): "[]", "": '""'}
        shown = f"`{empty.get(info.default, info.default)}`" if info.name != "sensors" else "all of the nuScenes names"
        rows.append((f"`{info.name}`", shown, span, _acts(info.name), info.description))
    return markdown_table(("parameter", "default", "range or choices", "acts", "meaning"), rows)


def _acts(name: str) -> str:
    if name in {*READ_ONLY, "autostart"}:
        return "start"
    if name in MODEL_PARAMETERS:
        return "model"
    return "at once" if name.startswith(("detection.", "router.")) else "configure"


def topics_in() -> str:
    """Return the topics that the node listens to; those that differ in one word are one row."""
    rows = [(f"`{t.name}`", t.type.replace("/msg", ""), t.meaning) for t in inputs()]
    return markdown_table(("topic", "type", "sensor"), rows)


def topics_out() -> str:
    """Return the topics that the node publishes, those of the stages in one row."""
    shown = [t for t in outputs() if not t.name.startswith("~/debug/")]
    rows = [(f"`{t.name}`", t.type.replace("/msg", ""), t.when, t.meaning) for t in shown]
    debug = ("`~/debug/<stage>_ms`", "std_msgs/Float32", "each frame that is listened to", "time of a stage, in ms")
    return markdown_table(("topic", "type", "how often", "what"), [*rows, debug])


def operators() -> str:
    """Return the operators, those of the same verdicts in one row."""
    stored = json.loads(OPERATORS.read_text())
    by_row: dict[tuple[str, ...], list[str]] = {}
    for name, row in stored["operators"].items():
        by_row.setdefault(tuple(SIGNS[row[t]] if t in row else "" for t in TYPES), []).append(name)
    rows = ((", ".join(names), *row) for row, names in sorted(by_row.items(), reverse=True))
    graphs = sum(len(row) for row in stored["operators"].values())
    return (
        f"{graphs} graphs of one operator each, parsed and built by {stored['library']} without a GPU. Empty:\n"
        'ONNX has no such type. "Parses only": the parser says nothing, and the build then fails.\n\n'
        + markdown_table(("operator", *TYPES), rows)
    )


def builds() -> str:
    """Return sizes and times of the built engines, one row for each bundle or configuration and precision."""
    stored = json.loads(BUILDS.read_text())
    rows = []
    for names, group in groupby(stored["builds"], key=lambda row: (row["source"], row["weights"], row["precision"])):
        graphs = list(group)
        layers, plan, onnx, seconds = (
            sum(g[k] for g in graphs) for k in ("layers", "plan_bytes", "onnx_bytes", "seconds")
        )
        types = sorted({t for g in graphs for t in g["types"]})
        sizes = (f"{onnx / 2**20:.1f}", f"{plan / 2**20:.1f}", f"{seconds:.1f}")
        rows.append((*names, layers, *sizes, ", ".join(types)))
    head = ("of", "weights", "precision", "layers", "ONNX, MiB", "engines, MiB", "s", "types of its tensors")
    return (
        f"{stored['library']}, one engine for compute capabilities {', '.join(stored['capabilities'])}, built on\n"
        "a CPU; sums over the six graphs.\n\n" + markdown_table(head, rows)
    )


#: What makes the tables of each page, by their names in the marks
PAGES = {
    "data.md": {"rules": rules, "faults": faults, "fields": fields, "topics": names},
    "engines.md": {"operators": operators, "builds": builds},
    "parameters.md": {"parameters": parameters},
    "topics.md": {"inputs": topics_in, "outputs": topics_out},
    "troubleshooting.md": {"doctor": doctor},
}


def filled(page: str) -> str:
    """Return a page of this folder with its tables as the code defines them."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, make in PAGES[page].items():
        text = fill_section(text, f"<!-- {name}: made by docs/make_tables.py -->", make(), f"<!-- end of {name} -->")
    return text


if __name__ == "__main__":
    for page in PAGES:
        (DOCS / page).write_text(filled(page), encoding="utf-8")
