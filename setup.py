# SPDX-License-Identifier: Apache-2.0
"""What colcon and the ROS index need beyond pyproject.toml: executables and the files below share/peft_dml_ros.

Version and executables stand here, not in pyproject.toml, because the setuptools of Ubuntu 22.04 does not read it;
python_requires, because colcon cannot read back the object that setuptools makes of pyproject's requires-python.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "peft_dml_ros"
TOOLS = "peft_dml_tools"
SHARE = Path("share") / NAME
HERE = Path(__file__).resolve().parent


def version() -> str:
    """Return the version that the package states about itself."""
    text = (HERE / NAME / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no __version__ in {NAME}/__init__.py")
    return found.group(1)


def tree(folder: str) -> list[tuple[str, list[str]]]:
    """List the files below `folder` as data_files entries that keep its layout inside the share folder.

    Paths are relative: setuptools and ``colcon build --symlink-install`` refuse absolute ones.
    """
    below: dict[str, list[str]] = {}
    for path in sorted((HERE / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            relative = path.relative_to(HERE)
            below.setdefault(str(SHARE / relative.parent), []).append(str(relative))
    return list(below.items())


setup(
    name=NAME,
    version=version(),
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*", TOOLS, f"{TOOLS}.*"]),
    package_data={NAME: ["py.typed"], TOOLS: ["py.typed", "report/assets/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (str(SHARE), ["package.xml", "LICENSE"]),
        # `peft-dml` on PATH after `source install/setup.bash`; colcon.pkg names the hooks.
        (str(SHARE / "environment"), ["resource/environment/path.dsv", "resource/environment/path.sh"]),
        (str(SHARE / "bin"), ["resource/bin/peft-dml"]),
        *tree("launch"),
        *tree("config"),
        *tree("models/demo"),
        *tree("models/base"),
    ],
    entry_points={
        "console_scripts": [
            "peft-dml = peft_dml_ros.cli:start",
            "perception = peft_dml_ros.nodes.perception:main",
            "recorder = peft_dml_tools.nodes.recorder:main",
            "replay = peft_dml_tools.nodes.replay:main",
        ],
        # Read by peft_dml_ros.cli.main.
        "peft_dml.commands": ["peft_dml_tools = peft_dml_tools.commands:COMMANDS"],
    },
    zip_safe=False,
)
