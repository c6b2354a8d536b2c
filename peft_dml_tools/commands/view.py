# SPDX-License-Identifier: Apache-2.0
"""`peft-dml view`: look at a recording, or at a running vehicle, in Foxglove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peft_dml_tools.live.viewer_address import announce


def view(
    source: Annotated[
        str, typer.Argument(metavar="[BAG|live]", help="A recording, or `live`: this ROS domain")
    ] = "live",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port of the server; 0 takes a free one")] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines look")] = "127.0.0.1",
    rate: Annotated[float, typer.Option(min=0.01, max=100.0, help="Of a recording: recorded seconds per second")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Of a recording: end with it instead of starting again")] = False,
) -> None:
    """Serve boxes, tracks, clouds, cameras with boxes, gate weights and sensor states to Foxglove.

    Open the printed link in a browser, or the address in the Foxglove app, and import the printed layout file there.
    Of a running vehicle a topic is only taken while somebody looks at it. `peft-dml demo --view` shows the demo.

    Examples:
      peft-dml view demo_out/detections.mcap
      peft-dml view live
    """
    import threading
    from functools import partial

    from rich.console import Console

    console = Console()
    if source == "live":
        from peft_dml_tools.live.environment import require_ros

        require_ros()
        from peft_dml_tools.nodes.viewer import main

        main(["--port", str(port), "--host", host], partial(announce, console))
        return
    from peft_dml_tools.datasets.bag_storage import BagStorage
    from peft_dml_tools.live.bag_view import play_bag
    from peft_dml_tools.live.children import graceful_exit
    from peft_dml_tools.live.foxglove_server import FoxgloveServer

    recording = BagStorage(Path(source))
    server = FoxgloveServer(port, host)
    announce(console, server.address)
    try:
        with graceful_exit():
            play_bag(recording, server, threading.Event(), rate=rate, once=once)
    except KeyboardInterrupt:
        console.print("Ended.")
    finally:
        server.close()
    for topic, reason in server.skipped.items():
        console.print(f"not shown: {topic}: {reason}", highlight=False, soft_wrap=True)
