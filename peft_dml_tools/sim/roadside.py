# SPDX-License-Identifier: Apache-2.0
"""What stands or walks along the road: parked vehicles, lots, building sites, people."""

from typing import Final

import numpy as np

from peft_dml_tools.sim.actors import CLASS_STATISTICS
from peft_dml_tools.sim.layout import Street, draw
from peft_dml_tools.sim.road import CROSSING_HALF_M, CYCLE_STRIP_M, KERB_M, PARKING_ACROSS_M, PARKING_ALONG_M
from peft_dml_tools.sim.scenery import OpenGround
from peft_dml_tools.sim.traffic import STEP_S

PARKED: Final = {
    "car": 0.8,
    "truck": 0.05,
    "motorcycle": 0.07,
    "trailer": 0.025,
    "bus": 0.015,
    "construction_vehicle": 0.01,
}
LOT: Final = {
    "car": 0.88,
    "truck": 0.03,
    "trailer": 0.02,
    "construction_vehicle": 0.01,
    "bus": 0.01,
    "motorcycle": 0.05,
}
#: Rows of a parking lot beyond the pavement: two back to back, a lane, two more
LOT_ROWS_M: Final = (4.2, 9.7, 20.5, 26.0)


def park(street: Street, sites: list[OpenGround]) -> None:
    """Fill the parking strips along or across the road, and stand cycles on the pavement."""
    rng, road = street.rng, street.road
    for side in (-1, 1):
        if road.parking_m >= PARKING_ACROSS_M and rng.random() < 0.65:
            _park_across(street, sites, side)
        else:
            _park_along(street, sites, side)
        for s in np.arange(street.span_m[0], street.span_m[1], float(rng.uniform(70, 220))):
            where = side * (road.kerb_m + 0.95)
            if not road.near_crossing(s, 6.0, where):
                for k in range(int(rng.integers(1, 5))):
                    turn = float(rng.choice([0.0, np.pi / 2])) + float(rng.normal(0, 0.2))
                    street.stand("bicycle", s + 0.75 * k + 1.5, where, turn, base_z_m=KERB_M)


def _blocked(street: Street, sites: list[OpenGround], side: int, middle_m: float, length_m: float) -> bool:
    """Return whether a place of a parking strip is a building site or too near to a crossing."""
    taken = any(site.side == side and site.start_m - length_m < middle_m < site.end_m + length_m for site in sites)
    return taken or bool(street.road.near_crossing(middle_m, length_m / 2 + 4.0, side * street.road.kerb_m))


def _park_across(street: Street, sites: list[OpenGround], side: int) -> None:
    """Fill one strip with cars and motorcycles that stand across the road, or at a slant to it."""
    rng, road = street.rng, street.road
    slant = float(rng.choice([np.pi / 2, rng.uniform(0.7, 1.2), rng.uniform(1.9, 2.4)], p=[0.6, 0.2, 0.2]))
    nose = float(rng.choice([0.1, 0.5, 0.9]))
    s = street.span_m[0]
    while s < street.span_m[1]:
        cls = draw(rng, {"car": 0.93, "motorcycle": 0.07})
        length, width, _ = CLASS_STATISTICS[cls].mean_m
        pitch = (width + float(rng.uniform(0.5, 1.0))) / np.sin(slant)
        middle = s + pitch / 2
        s += pitch
        if _blocked(street, sites, side, middle, 5.0) or rng.random() > street.parking:
            continue
        depth = (length * np.sin(slant) + width * abs(np.cos(slant))) / 2
        turn = slant + (np.pi if rng.random() < nose else 0.0) + float(rng.normal(0, 0.04))
        street.stand(cls, middle, side * (road.kerb_m - 0.15 - depth), turn, parked=True)


def _park_along(street: Street, sites: list[OpenGround], side: int) -> None:
    """Fill one strip with vehicles in a row, and with motorcycles side by side."""
    rng, road = street.rng, street.road
    offset = side * (road.kerb_m - PARKING_ALONG_M / 2 + 0.1)
    forward = 0.0 if side == -road.hand else np.pi
    s = row_end = street.span_m[0]
    while s < street.span_m[1]:
        cls = draw(rng, PARKED)
        length = CLASS_STATISTICS[cls].mean_m[0] * 1.15 + 0.4
        middle = s + length / 2
        if _blocked(street, sites, side, middle, length) or rng.random() > street.parking:
            s += 4.0
            continue
        if cls == "motorcycle":
            # Rows on the pavement stand behind the cars at the kerb.
            raised = rng.random() < 0.6 and s >= row_end
            where, base = (side * (road.kerb_m + 1.0), KERB_M) if raised else (offset, 0.0)
            for k in range(int(rng.integers(3, 10))):
                lean = forward + side * np.pi / 2 + float(rng.normal(0, 0.12))
                street.stand("motorcycle", s + 0.5 + 0.72 * k, where, lean, base_z_m=base)
            row_end = s + 7.2
            s += 0.0 if raised else 7.2
            continue
        flip = np.pi if rng.random() < 0.06 else 0.0
        turn = forward + flip + float(rng.normal(0, 0.025))
        street.stand(cls, middle, offset + float(rng.normal(0, 0.1)), turn, parked=True)
        s += length + float(rng.exponential(0.6))


def park_crossings(street: Street) -> None:
    """Park vehicles along the streets that cross, outside their two lanes."""
    rng, road = street.rng, street.road
    for crossing in road.crossings:
        for right in (-1, 1):
            for side in (-1, 1):
                d = crossing.clear_m(road.kerb_m) + 9.0
                while d < 85.0:
                    cls = draw(rng, {"car": 0.86, "truck": 0.06, "motorcycle": 0.08})
                    length = CLASS_STATISTICS[cls].mean_m[0] * 1.15 + 0.4
                    if rng.random() < street.parking:
                        turn = (0.0 if right == road.hand else np.pi) + float(rng.normal(0, 0.03))
                        along = np.full(street.steps, side * (d + length / 2))
                        track = street.on_crossing(crossing, along, right * (CROSSING_HALF_M - 1.3), turn)
                        street.add(cls, track, parked=True)
                    d += length + float(rng.exponential(0.8))


def fill_lot(street: Street, lot: OpenGround) -> None:
    """Park vehicles in rows at any angle to the road."""
    rng, road = street.rng, street.road
    slant = float(rng.choice([np.pi / 2, rng.uniform(0.5, np.pi - 0.5)], p=[0.45, 0.55]))
    for row in LOT_ROWS_M[: int(rng.integers(2, 5))]:
        offset = lot.side * (road.frontage_m + row)
        s = lot.start_m + 3.0
        while s < lot.end_m - 3.0:
            cls = draw(rng, LOT)
            _, width, _ = CLASS_STATISTICS[cls].mean_m
            pitch = (width + 0.8) / max(np.sin(slant), 0.5)
            if rng.random() < 0.82 and CLASS_STATISTICS[cls].mean_m[0] < 5.0 + 15.0 * (row == LOT_ROWS_M[0]):
                turn = slant + (np.pi if rng.random() < 0.4 else 0.0) + float(rng.normal(0, 0.05))
                extra = lot.side * max(0.0, CLASS_STATISTICS[cls].mean_m[0] - 5.0) / 2
                street.stand(cls, s + pitch / 2, offset + extra, turn, parked=True)
            s += pitch


def build_site(street: Street, site: OpenGround) -> None:
    """Return a closed parking strip: cones or barriers along the traffic, machines and workers behind."""
    rng, road = street.rng, street.road
    inner, middle = road.carriageway_m + CYCLE_STRIP_M - 0.35, road.kerb_m - PARKING_ALONG_M / 2 + 0.35
    fenced = rng.random() < 0.55
    for s in np.arange(site.start_m + 4, site.end_m - 4, 2.75 if fenced else float(rng.uniform(2.2, 4.0))):
        if fenced:
            street.stand("barrier", s, site.side * inner, np.pi / 2 + float(rng.normal(0, 0.06)))
        else:
            street.stand("traffic_cone", s, site.side * (inner + float(rng.normal(0, 0.12))), float(rng.uniform(-3, 3)))
    for end in (site.start_m, site.end_m):
        for k in range(3):
            shift = (1 if end == site.start_m else -1) * 1.1 * k
            street.stand(
                "traffic_cone", end + shift, site.side * (road.kerb_m - 0.4 - 0.8 * k), float(rng.uniform(-3, 3))
            )
        if rng.random() < 0.5:
            turn = 0.0 if end == site.end_m else np.pi
            street.stand("barrier", end, site.side * (road.kerb_m - 1.4), turn + float(rng.normal(0, 0.1)))
    s = site.start_m + 7.0
    while s < site.end_m - 7.0:
        cls = draw(rng, {"construction_vehicle": 0.5, "truck": 0.2, "trailer": 0.2, "worker": 0.6})
        if cls == "worker":
            where = site.side * (middle + float(rng.uniform(-0.8, 0.8)))
            street.stand("pedestrian", s, where, float(rng.uniform(-np.pi, np.pi)), posture="worker")
            s += float(rng.uniform(1.5, 4.0))
            continue
        length = CLASS_STATISTICS[cls].mean_m[0] * 1.2
        turn = float(rng.choice([0.0, np.pi])) + float(rng.normal(0, 0.04))
        if s + length < site.end_m - 3.0:
            street.stand(cls, s + length / 2, site.side * middle, turn, parked=True)
        s += length + float(rng.uniform(1.0, 4.0))


def walk(street: Street) -> None:
    """Place pedestrians on the pavements, in groups or alone, and over the road where its light is red."""
    rng, road = street.rng, street.road
    t = STEP_S * np.arange(street.steps)
    for side in (-1, 1):
        s = street.span_m[0]
        while s < street.span_m[1]:
            s += float(rng.exponential(260.0 / max(street.people, 1.0)))
            moving = rng.random() < 0.68
            direction = int(rng.choice([-1, 1]))
            speed = float(np.clip(rng.normal(1.3, 0.22), 0.6, 2.0)) if moving else 0.0
            for k in range(int(rng.choice([1, 2, 3, 5], p=[0.5, 0.3, 0.13, 0.07]))):
                offset = side * float(rng.uniform(road.kerb_m + 1.5, road.frontage_m - 0.2))
                start = s + 0.9 * k + float(rng.normal(0, 0.15))
                if moving:
                    track = street.along(start + direction * speed * t, offset, direction)
                    street.add("pedestrian", track, base_z_m=KERB_M)
                else:
                    posture = "sitting" if rng.random() < 0.12 else ""
                    turn = float(rng.uniform(-np.pi, np.pi))
                    street.stand("pedestrian", start, offset, turn, base_z_m=KERB_M, posture=posture)
    if street.red_until_s < STEP_S * street.steps:
        return
    corner = street.corner
    for crossing in road.crossings:
        for _ in range(int(rng.integers(2, 8))):
            sense = int(rng.choice([-1, 1]))
            start = float(rng.uniform(-road.kerb_m - 6, road.kerb_m))
            speed = float(np.clip(rng.normal(1.35, 0.2), 0.8, 2.0))
            edge = float(rng.choice([-1, 1]))
            if corner is not None:
                edge = -1.0 if corner.inwards else 1.0  # the other one is the ego's
            where = crossing.station_m + edge * (crossing.reach_m(road.carriageway_m) + float(rng.uniform(1.2, 3.3)))
            street.add("pedestrian", street.across(where, sense * (start + speed * t), sense))
