# SPDX-License-Identifier: Apache-2.0
"""Traffic in lanes by the intelligent driver model (Treiber, Hennecke, Helbing 2000): nobody drives into anybody."""

from dataclasses import dataclass, replace

import numpy as np

from peft_dml_ros.core.typing import FloatArray

STEP_S = 0.05
MAX_ACCEL = 1.6
COMFORT_BRAKE = 2.2
HEADWAY_S = 1.4
HARDEST_BRAKE = 8.0
SETTLE_S = 9.0
STANDSTILL_GAP_M = 2.5


@dataclass(frozen=True, slots=True)
class Vehicle:
    """A road user in a lane."""

    cls: str  #: Detection class
    station_m: float  #: Position along its own direction of travel at the start
    speed_mps: float  #: Speed at the start
    desired_mps: float  #: Speed it wants
    length_m: float  #: Its length, for gaps
    stop_at_m: float = np.inf  #: It halts before this station (its own direction) until `go_at_s`
    go_at_s: float = 0.0  #: When the halt ends
    #: First and last station of a stretch (a corner) that it takes at `slow_mps` at most
    slow_m: tuple[float, float] = (np.inf, np.inf)
    slow_mps: float = np.inf  #: Speed there
    halt_at_s: float = np.inf  #: From then on it brakes hard, whatever the traffic
    halt_for_s: float = 0.0  #: For so long
    halt_mps2: float = 6.0  #: So hard
    headway_s: float = HEADWAY_S  #: Time gap it keeps; who follows closely brakes hard


def drive_lane(vehicles: list[Vehicle], steps: int) -> tuple[FloatArray, FloatArray]:
    """Move a lane's vehicles for some steps of `STEP_S`; return stations and speeds (V, steps) in the order given.

    Args:
        vehicles: Any order; the one with the largest station leads.
        steps: Number of instants, the start included.
    """
    order = np.argsort([-v.station_m for v in vehicles])
    s = np.array([vehicles[i].station_m for i in order])
    v = np.array([vehicles[i].speed_mps for i in order])
    desired = np.maximum(np.array([vehicles[i].desired_mps for i in order]), 0.1)
    half = np.array([vehicles[i].length_m for i in order]) / 2
    stop = np.array([vehicles[i].stop_at_m for i in order])
    go = np.array([vehicles[i].go_at_s for i in order])
    slow = np.array([(*vehicles[i].slow_m, vehicles[i].slow_mps) for i in order]).reshape(-1, 3)
    one = [vehicles[i] for i in order]
    headway = np.array([o.headway_s for o in one])
    halt = np.array([(o.halt_at_s, o.halt_at_s + o.halt_for_s, o.halt_mps2) for o in one]).reshape(-1, 3)
    stations, speeds = np.empty((len(s), steps)), np.empty((len(s), steps))
    for k in range(steps):
        stations[order, k], speeds[order, k] = s, v
        gap = np.concatenate([[np.inf], s[:-1] - s[1:] - half[:-1] - half[1:]])
        closing = np.concatenate([[0.0], v[1:] - v[:-1]])
        light = np.where((k * STEP_S < go) & (stop > s), stop - s - half, np.inf)
        closing = np.where(light < gap, v, closing)
        gap = np.maximum(np.minimum(gap, light), 0.1)
        gap_wanted_m = STANDSTILL_GAP_M + np.maximum(
            0.0, v * headway + v * closing / (2 * np.sqrt(MAX_ACCEL * COMFORT_BRAKE))
        )
        free = np.minimum(desired, np.where(s > slow[:, 1], np.inf, _before_corner(slow, s)))
        accel = np.clip(MAX_ACCEL * (1 - (v / free) ** 4 - (gap_wanted_m / gap) ** 2), -HARDEST_BRAKE, MAX_ACCEL)
        halting = (k * STEP_S >= halt[:, 0]) & (k * STEP_S < halt[:, 1])
        accel = np.where(halting, np.minimum(accel, -halt[:, 2]), accel)
        faster = np.maximum(v + accel * STEP_S, 0.0)
        s = s + 0.5 * (v + faster) * STEP_S
        v = faster
    return stations, speeds


def _before_corner(slow: FloatArray, s: FloatArray) -> FloatArray:
    """Return the speed from which braking in comfort still reaches a corner's speed at its begin."""
    distance = np.clip(slow[:, 0] - s, 0.0, 1e4)
    speed: FloatArray = np.sqrt(slow[:, 2] ** 2 + 2 * 0.7 * COMFORT_BRAKE * distance)
    return speed


def queue(vehicles: list[Vehicle]) -> list[Vehicle]:
    """Return the vehicles with starting speeds that suit their gaps: nobody brakes hard in the first second."""
    ahead: Vehicle | None = None
    out: dict[int, Vehicle] = {}
    for i in np.argsort([-v.station_m for v in vehicles]):
        vehicle = vehicles[int(i)]
        room = np.inf
        if ahead is not None:
            room = ahead.station_m - vehicle.station_m - (ahead.length_m + vehicle.length_m) / 2 - STANDSTILL_GAP_M
        limit = max(0.0, room / vehicle.headway_s)
        if vehicle.go_at_s > 0 and vehicle.stop_at_m > vehicle.station_m:
            distance = max(0.0, vehicle.stop_at_m - vehicle.station_m - vehicle.length_m / 2 - STANDSTILL_GAP_M)
            limit = min(limit, float(np.sqrt(2 * 1.5 * distance)))
        if vehicle.station_m < vehicle.slow_m[1]:
            into = max(0.0, min(vehicle.slow_m[0], 1e4) - vehicle.station_m)
            limit = min(limit, float(np.sqrt(min(vehicle.slow_mps, 1e3) ** 2 + 2 * COMFORT_BRAKE * 0.7 * into)))
        ahead = replace(vehicle, speed_mps=min(vehicle.speed_mps, limit))
        out[int(i)] = ahead
    return [out[i] for i in range(len(vehicles))]


def settled(vehicles: list[Vehicle]) -> list[Vehicle]:
    """Return the same vehicles `SETTLE_S` later, their lights red all the while: queues stand when the drive begins."""
    if not vehicles:
        return []
    stations, speeds = drive_lane(
        [replace(v, go_at_s=v.go_at_s + SETTLE_S) for v in vehicles], round(SETTLE_S / STEP_S)
    )
    last = zip(vehicles, stations[:, -1], speeds[:, -1], strict=True)
    return [replace(v, station_m=float(s), speed_mps=float(speed) if speed > 0.25 else 0.0) for v, s, speed in last]
