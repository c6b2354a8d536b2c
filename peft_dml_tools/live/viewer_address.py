# SPDX-License-Identifier: Apache-2.0
"""Where a viewer is found, in words for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from peft_dml_tools.live.environment import shared_file

if TYPE_CHECKING:
    from rich.console import Console

APP: Final = "https://app.foxglove.dev/?ds=foxglove-websocket&ds.url="
LAYOUT: Final = "foxglove.json"


def announce(console: Console, address: str) -> None:
    """Print the link of the app, the address for the desktop app, and the layout to import."""
    layout = shared_file("config", LAYOUT)
    console.print(f"Open [bold]{APP}{quote(address, safe='')}[/]", soft_wrap=True, highlight=False)
    console.print(
        f"or {address} in the Foxglove app; layout to import there: {layout}", soft_wrap=True, highlight=False
    )
