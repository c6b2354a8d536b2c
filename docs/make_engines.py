# SPDX-License-Identifier: Apache-2.0
"""Fills the tables of docs/engines.md that TensorRT for RTX itself has made: `python docs/make_engines.py`.

The verdicts: `python -m peft_dml_train.export.operator_probes`; the builds: `python -m
peft_dml_train.export.engine_builds`.
"""

import json
from itertools import groupby
from pathlib import Path

from peft_dml_tools.markdown_pages import fill_section, markdown_table

PAGE = Path(__file__).with_name("engines.md")
ROOT = PAGE.parents[1]
OPERATORS = ROOT / "train" / "peft_dml_train" / "export" / "operator_table.json"
BUILDS = ROOT / "bench" / "engine_builds.json"
TYPES = ("float", "float16", "int32", "int64", "bool", "uint8", "int8")
SIGNS = {"builds": "yes", "refused": "no", "parses, does not build": "parses only"}


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
    if not BUILDS.is_file():
        return "Not recorded yet: `python -m peft_dml_train.export.engine_builds` does it, then run this script again."
    stored = json.loads(BUILDS.read_text())
    key = ("source", "weights", "precision")
    rows = []
    for names, group in groupby(stored["builds"], key=lambda row: tuple(row[k] for k in key)):
        graphs = list(group)
        layers, plan = (sum(g[k] for g in graphs) for k in ("layers", "plan_bytes"))
        onnx, seconds = (sum(g[k] for g in graphs) for k in ("onnx_bytes", "seconds"))
        types = sorted({t for g in graphs for t in g["types"]})
        sizes = (f"{onnx / 2**20:.1f}", f"{plan / 2**20:.1f}", f"{seconds:.1f}")
        rows.append((*names, layers, *sizes, ", ".join(types)))
    head = ("of", "weights", "precision", "layers", "ONNX, MiB", "engines, MiB", "s", "types of its tensors")
    return (
        f"{stored['library']}, one engine for compute capabilities {', '.join(stored['capabilities'])}, built on\n"
        "a CPU; sums over the six graphs.\n\n" + markdown_table(head, rows)
    )


def fill(text: str) -> str:
    """Return the page with its tables as the files say."""
    for name, made in (("operators", operators()), ("builds", builds())):
        text = fill_section(text, f"<!-- {name}: made by make_engines.py -->", made, f"<!-- end of {name} -->")
    return text


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
