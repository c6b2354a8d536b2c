# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training: one process per GPU, or per core of a CPU, gradients averaged after each step.

On cores that other programs share, operators that split over threads wait for their slowest part dozens of times a
step; processes wait once.
"""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

from peft_dml_ros.core.errors import ConfigError, DataError

KINDS = {kind.__name__: kind for kind in (ConfigError, DataError)}


def rank() -> int:
    """Number of this process, 0 for the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def agree(value: float) -> float:
    """Return the first process's value, in all processes."""
    if world_size() == 1:
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    distributed.broadcast(shared, 0)
    return float(shared)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _enter(number: int, function: Callable[..., Any], count: int, port: int, arguments: tuple[Any, ...]) -> None:
    # What accelerate reads to find its peers.
    os.environ.update(
        dict.fromkeys(("RANK", "LOCAL_RANK"), str(number))
        | dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count))
        | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    )
    if not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"
    _joined(function, arguments)


def _joined(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Run as one of the processes that the environment names, as torchrun and accelerate set it."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group()
    try:
        function(*arguments)
    finally:
        distributed.destroy_process_group()


def reported_error(trace: str) -> ConfigError | DataError | None:
    """Return an error meant for the user, from another process's traceback: only its text comes over."""
    name, _, text = trace.strip().splitlines()[-1].partition(": ")
    kind = KINDS.get(name.rpartition(".")[2])
    return None if kind is None else kind(text)


def run_parallel(function: Callable[..., Any], count: int, *arguments: Any) -> None:
    """Call a module-level function in so many processes at once; one runs here.

    Under torchrun, this process is one of several already: it joins them.

    Args:
        function: Called with the arguments; `rank()` and `world_size()` tell it its share.
        count: Processes, where torchrun has not decided it.
        arguments: Must be picklable when there is more than one process.

    Raises:
        ConfigError: as the function raised it in any of the processes.
        DataError: likewise.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        _joined(function, arguments)
    elif count <= 1:
        function(*arguments)
    else:
        try:
            # torch gives it no types.
            spawn(_enter, (function, count, _free_port(), arguments), nprocs=count)  # type: ignore[no-untyped-call]
        except ProcessRaisedException as error:
            reported = reported_error(error.msg)
            if reported is None:
                raise
            raise reported from None
