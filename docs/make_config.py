# SPDX-License-Identifier: Apache-2.0
"""Writes config/perception.yaml and config/sros2/perception.policy.xml from the code: `python docs/make_config.py`."""

from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap

import yaml

from peft_dml_ros.core.params import ParamInfo, describe
from peft_dml_ros.nodes.interface import NODE
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.node_interface import SERVICES, published, subscribed

CONFIG = Path(__file__).resolve().parents[1] / "config"
WIDTH = 116


def parameter_file() -> str:
    """Return the text of `config/perception.yaml`: every parameter, its default, description and range."""
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "# Made by `python docs/make_config.py`; every value here is the default.",
        "perception:",
        "  ros__parameters:",
    ]
    group: list[str] = []
    for info in describe(NodeParams):
        *parents, name = info.name.split(".")
        if parents != group:
            lines += [f"{'  ' * (2 + depth)}{parent}:" for depth, parent in enumerate(parents)]
            group = parents
        indent = "  " * (2 + len(parents))
        lines += [f"{indent}# {line}" for line in wrap(_comment(info), WIDTH - len(indent))]
        lines += [f"{indent}{line}".rstrip() for line in _entry(name, info.default)]
    return "\n".join(lines) + "\n"


def _comment(info: ParamInfo) -> str:
    if info.minimum is None or info.maximum is None:
        return info.description
    return f"{info.description} ({info.minimum:g} to {info.maximum:g})"


def _entry(name: str, default: object) -> list[str]:
    value = list(default) if isinstance(default, tuple) else default
    text: str = yaml.safe_dump(value, default_flow_style=True, width=WIDTH - 20)
    return f"{name}: {text.removesuffix('...' + chr(10)).strip()}".splitlines()


def policy() -> str:
    """Return the SROS2 access policy: exactly what the node does, nothing else."""
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            "<!-- SPDX-License-Identifier: Apache-2.0",
            "     Made by `python docs/make_config.py`; how to use it: docs/security.md -->",
            '<policy version="0.2.0">',
            "  <enclaves>",
            f'    <enclave path="/{NODE}">',
            "      <profiles>",
            f'        <profile ns="/" node="{NODE}">',
            *_block("topics", "topic", 'publish="ALLOW"', published()),
            *_block("topics", "topic", 'subscribe="ALLOW"', subscribed()),
            *_block("services", "service", 'reply="ALLOW"', SERVICES),
            "        </profile>",
            "      </profiles>",
            "    </enclave>",
            "  </enclaves>",
            "</policy>",
            "",
        ]
    )


def _block(kind: str, item: str, permission: str, names: Iterable[str]) -> list[str]:
    below = [name.replace("~/", f"{NODE}/") for name in names]
    return [
        f"          <{kind} {permission}>",
        *(f"            <{item}>{name}</{item}>" for name in below),
        f"          </{kind}>",
    ]


if __name__ == "__main__":
    (CONFIG / "perception.yaml").write_text(parameter_file(), encoding="utf-8")
    (CONFIG / "sros2" / "perception.policy.xml").write_text(policy(), encoding="utf-8")
