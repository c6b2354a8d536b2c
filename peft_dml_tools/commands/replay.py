# SPDX-License-Identifier: Apache-2.0
"""`peft-dml replay`: play a bag or nuScenes folder into ROS, with scripted sensor faults."""

from pathlib import Path
from typing import Annotated, Optional

import typer


def replay(
    source: Annotated[Path, typer.Argument(help="A bag (.mcap, .db3 or rosbag2 folder) or a nuScenes folder.")],
    faults: Annotated[
        Optional[Path], typer.Option(help="Fault script: a YAML list of {sensor, fault, from_s, to_s}.")
    ] = None,
    weather: Annotated[str, typer.Option(help="fog=50 (visibility in m), rain=25 or snow=5 (mm/h).")] = "clear",
    seed: Annotated[int, typer.Option(min=0, help="Of the weather's randomness.")] = 0,
    rate: Annotated[float, typer.Option(help="Recorded seconds per second; other than 1 publishes /clock.")] = 1.0,
    start: Annotated[float, typer.Option(min=0.0, help="Seconds to skip at the beginning.")] = 0.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end, until Ctrl-C.")] = False,
    clock: Annotated[bool, typer.Option("--clock", help="Publish /clock, for nodes with use_sim_time.")] = False,
    keep_stamps: Annotated[bool, typer.Option("--keep-stamps", help="Do not shift header stamps to now.")] = False,
    wait_for: Annotated[
        Optional[list[str]], typer.Option(metavar="TOPIC[=N]", help="Wait for N subscribers; may be repeated.")
    ] = None,
    wait_for_node: Annotated[
        str, typer.Option(metavar="NAME", help="Wait until this node listens, e.g. perception.")
    ] = "",
    wait_s: Annotated[float, typer.Option(min=0.0, help="Longest wait for subscribers.")] = 30.0,
    as_recorded: Annotated[
        bool, typer.Option("--as-recorded", help="Keep the topics of a bag whose names are another maker's.")
    ] = False,
    scene: Annotated[Optional[str], typer.Option(help="Scene of a nuScenes folder; the first otherwise.")] = None,
) -> None:
    """Publish a bag's sensors live, in any weather and with scripted faults.

    While it plays, `ros2 param set /replay weather fog=50` changes the weather, and the parameter `faults` (YAML text)
    the faults.

    Examples:
      peft-dml replay drive.mcap --faults faults.yaml --weather rain=25
      peft-dml replay /data/nuscenes --scene scene-0061 --loop
    """
    arguments = [str(source), "--rate", str(rate), "--start", str(start), "--wait-s", str(wait_s)]
    arguments += ["--weather", weather, "--seed", str(seed)]
    arguments += ["--faults", str(faults)] if faults else []
    arguments += ["--scene", scene] if scene else []
    arguments += ["--wait-for-node", wait_for_node] if wait_for_node else []
    switches = {"--loop": loop, "--clock": clock, "--keep-stamps": keep_stamps, "--as-recorded": as_recorded}
    arguments += [name for name, on in switches.items() if on]
    arguments += ["--wait-for", *wait_for] if wait_for else []

    from peft_dml_tools.nodes.replay import played

    if not played(arguments):
        raise KeyboardInterrupt("the recording was not played to its end; --start goes on from a second of it.")
