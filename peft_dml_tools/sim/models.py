# SPDX-License-Identifier: Apache-2.0
"""Shapes of the vehicles among the ten classes; each builder returns a mesh in proportions, later fitted to its box."""

import numpy as np

from peft_dml_tools.sim.mesh import Material, Mesh, Surface, box, column, merge, prism, wheel

RUBBER = Material((0.05, 0.05, 0.05), 0.06)
GLASS = Material((0.08, 0.10, 0.13), 0.005, Surface.GLASS)  #: Window panes pass or mirror nearly all of a laser pulse
METAL = Material((0.45, 0.46, 0.48), 0.45)
DARK = Material((0.12, 0.12, 0.13), 0.12)
LAMP = Material((0.85, 0.15, 0.10), 0.9)
HEADLAMP = Material((0.95, 0.95, 0.88), 0.8)
PLATE = Material((0.9, 0.9, 0.9), 1.0)

PAINTS = (
    (0.85, 0.86, 0.87),
    (0.62, 0.64, 0.66),
    (0.10, 0.10, 0.11),
    (0.30, 0.31, 0.33),
    (0.50, 0.06, 0.06),
    (0.08, 0.16, 0.42),
    (0.72, 0.69, 0.60),
    (0.10, 0.30, 0.20),
    (0.80, 0.55, 0.05),
)
PAINT_SHARE = (0.27, 0.2, 0.2, 0.13, 0.06, 0.07, 0.03, 0.02, 0.02)


def paint(rng: np.random.Generator) -> Material:
    """Return a car colour as often as streets show it."""
    albedo = PAINTS[int(rng.choice(len(PAINTS), p=PAINT_SHARE))]
    shade = float(rng.uniform(0.85, 1.1))
    red, green, blue = (min(c * shade, 1.0) for c in albedo)
    return Material((red, green, blue), 0.03 + 0.6 * float(np.mean(albedo)))


def _lamps(length: float, width: float, height: float) -> list[Mesh]:
    """Return the head and tail lamps and number plates, which lasers see brightly."""
    out = []
    for side in (-1, 1):
        out.append(box((0.04, 0.3, 0.14), HEADLAMP, (length / 2, side * (width / 2 - 0.25), height)))
        out.append(box((0.04, 0.22, 0.2), LAMP, (-length / 2, side * (width / 2 - 0.2), height + 0.05)))
    out.append(box((0.03, 0.5, 0.12), PLATE, (-length / 2, 0, height - 0.15)))
    return out


def _wheels(xs: tuple[float, ...], width: float, radius: float, tread: float = 0.22) -> list[Mesh]:
    y = width / 2 - tread / 2
    return [wheel(radius, tread, (x, side * y, radius), RUBBER) for x in xs for side in (-1, 1)]


def car(size_m: tuple[float, float, float], rng: np.random.Generator) -> Mesh:
    """Return a saloon, hatchback, off-roader, van or pick-up."""
    length, width, height = size_m
    body = paint(rng)
    a, half = length / 2, width / 2
    belt = 0.56 * height
    lower = prism(
        [(-a, 0.2), (a - 0.05, 0.2), (a, 0.35), (a - 0.08, belt - 0.15), (a - 1.1, belt), (-a + 0.05, belt), (-a, 0.4)],
        [half * 0.96, half * 0.92, half * 0.85, half * 0.9, half, half * 0.97, half * 0.92],
        body,
    )
    kind = rng.choice(["saloon", "hatch", "suv", "van", "pickup"], p=[0.34, 0.22, 0.3, 0.08, 0.06])
    front = a - {"saloon": 1.25, "hatch": 1.1, "suv": 1.2, "van": 0.75, "pickup": 1.5}[kind]
    rear = -a + {"saloon": 0.75, "hatch": 0.1, "suv": 0.08, "van": 0.05, "pickup": 1.9}[kind]
    slope_front, slope_rear = (0.65, 0.6) if kind == "saloon" else (0.6, 0.2)
    roof = 0.97 * height
    windows = prism(
        [(rear, belt), (front, belt), (front - slope_front, roof), (rear + slope_rear, roof)],
        [half * 0.93, half * 0.93, half * 0.74, half * 0.74],
        GLASS,
    )
    top = prism(
        [
            (rear + slope_rear - 0.05, roof - 0.06),
            (front - slope_front + 0.08, roof - 0.06),
            (front - slope_front - 0.1, height),
            (rear + slope_rear + 0.1, height),
        ],
        [half * 0.78, half * 0.78, half * 0.68, half * 0.68],
        body,
    )
    radius = 0.19 * height
    parts = [lower, windows, top, *_wheels((a - 0.85, -a + 0.85), width, radius), *_lamps(length, width, 0.38 * height)]
    return merge(parts)


def truck(size_m: tuple[float, float, float], rng: np.random.Generator) -> Mesh:
    """Return a cab and a box, flat bed or tank behind it."""
    length, width, height = size_m
    a, half = length / 2, width / 2
    body, cargo = paint(rng), paint(rng)
    cab_length = min(2.1, 0.36 * length)
    cab_height = min(height, 2.6)
    cab = prism(
        [
            (a - cab_length, 0.45),
            (a, 0.45),
            (a, 0.52 * cab_height),
            (a - 0.35, cab_height),
            (a - cab_length, cab_height),
        ],
        half * 0.95,
        body,
    )
    screen = prism(
        [
            (a + 0.01, 0.55 * cab_height),
            (a - 0.33, 0.95 * cab_height),
            (a - 0.4, 0.95 * cab_height),
            (a - 0.07, 0.55 * cab_height),
        ],
        half * 0.85,
        GLASS,
    )
    sides = box((0.9, width * 0.96, 0.3 * cab_height), GLASS, (a - cab_length / 2, 0, 0.58 * cab_height))
    hold = length - cab_length - 0.15
    x = -a + hold / 2
    if rng.random() < 0.6:
        load = box((hold, width, height - 0.85), cargo, (x, 0, 0.85))
    else:
        load = merge(
            [
                box((hold, width, 0.5), cargo, (x, 0, 0.8)),
                box((hold * 0.5, width * 0.8, height - 1.3), DARK, (x, 0, 1.3)),
            ]
        )
    chassis = box((length - 0.3, width * 0.5, 0.3), DARK, (0, 0, 0.5))
    wheels = _wheels((a - 0.9, -a + 1.1), width * 0.98, 0.45, 0.3)
    return merge([cab, screen, sides, load, chassis, *wheels, *_lamps(length, width, 0.6)])


def bus(size_m: tuple[float, float, float], rng: np.random.Generator) -> Mesh:
    """Return one long body with a band of windows."""
    length, width, height = size_m
    a = length / 2
    body = paint(rng)
    lower = box((length, width, 0.32 * height - 0.3), body, (0, 0, 0.3))
    band = box((length - 0.06, width - 0.04, 0.36 * height), GLASS, (0, 0, 0.32 * height))
    roof = box((length, width, 0.32 * height), body, (0, 0, 0.68 * height))
    posts = [box((0.25, width, 0.36 * height), body, (x, 0, 0.32 * height)) for x in np.linspace(-a + 0.13, a - 1.2, 7)]
    return merge(
        [lower, band, roof, *posts, *_wheels((a - 2.4, -a + 3.0), width, 0.48, 0.3), *_lamps(length, width, 0.6)]
    )


def trailer(size_m: tuple[float, float, float], rng: np.random.Generator) -> Mesh:
    """Return a semi-trailer: box on legs in front, axles behind."""
    length, width, height = size_m
    a = length / 2
    hold = box((length, width, height - 1.1), paint(rng), (0, 0, 1.1))
    frame = box((length - 0.6, width * 0.4, 0.3), DARK, (0, 0, 0.8))
    legs = [box((0.12, 0.12, 0.9), METAL, (a - 2.4, side * width * 0.35, 0)) for side in (-1, 1)]
    return merge(
        [hold, frame, *legs, *_wheels((-a + 1.2, -a + 2.4), width, 0.5, 0.45), *_lamps(length, width, 0.8)[1::2]]
    )


def construction_vehicle(size_m: tuple[float, float, float], rng: np.random.Generator) -> Mesh:
    """Return an excavator or wheel loader, yellow or orange."""
    length, width, height = size_m
    a = length / 2
    body = Material([(0.85, 0.6, 0.05), (0.85, 0.4, 0.05)][int(rng.integers(2))], 0.5)
    engine = box((0.45 * length, width * 0.85, 0.35 * height), body, (-a + 0.225 * length, 0, 0.3 * height))
    cabin = merge(
        [
            box((0.22 * length, width * 0.5, 0.4 * height), GLASS, (-0.02 * length, width * 0.1, 0.55 * height)),
            box((0.24 * length, width * 0.52, 0.06 * height), body, (-0.02 * length, width * 0.1, 0.94 * height)),
        ]
    )
    arm = prism([(0.0, 0.45 * height), (a * 0.55, 0.9 * height), (a * 0.55, height), (0.0, 0.6 * height)], 0.18, body)
    boom = prism(
        [(a * 0.5, height), (a * 0.5, 0.85 * height), (a - 0.3, 0.25 * height), (a - 0.1, 0.3 * height)], 0.15, body
    )
    bucket = box((0.6, width * 0.6, 0.3 * height), DARK, (a - 0.3, 0, 0.0))
    if rng.random() < 0.5:
        under = [box((0.75 * length, 0.5, 0.3 * height), DARK, (-a * 0.25, s * (width / 2 - 0.25), 0)) for s in (-1, 1)]
    else:
        under = _wheels((0.25 * length, -0.3 * length), width, 0.17 * height, 0.45)
    return merge([engine, cabin, arm, boom, bucket, *under])


def traffic_cone(_size_m: tuple[float, float, float], rng: np.random.Generator) -> Mesh:
    """Return an orange cone with a bright sleeve, or a slim bollard of that kind."""
    orange, white = Material((0.9, 0.28, 0.05), 0.5), Material((0.95, 0.95, 0.95), 1.0)
    foot = box((0.4, 0.4, 0.05), DARK)
    if rng.random() < 0.75:
        radii, heights = (0.08, 0.055, 0.04, 0.02), (0.05, 0.35, 0.55, 0.8)
    else:
        radii, heights = (0.055, 0.05, 0.05, 0.045), (0.05, 0.4, 0.65, 0.95)
    bands = [column(radii[k : k + 2], heights[k : k + 2], white if k == 1 else orange) for k in range(3)]
    return merge([foot, *bands])


def barrier(size_m: tuple[float, float, float], rng: np.random.Generator) -> Mesh:
    """Return a concrete or plastic wall, or a striped fence; its length is the thin side, as in nuScenes."""
    _, width, height = size_m
    kind = rng.choice(["concrete", "plastic", "fence"], p=[0.45, 0.3, 0.25])
    if kind == "fence":
        material = Material((0.9, 0.35, 0.1), 0.9)
        rails = [box((0.06, width, 0.18), material, (0, 0, z * height)) for z in (0.45, 0.8)]
        return merge([*rails, *[box((0.4, 0.08, height), METAL, (0, s * width * 0.4, 0)) for s in (-1, 1)]])
    material = Material((0.6, 0.6, 0.58), 0.35) if kind == "concrete" else Material((0.88, 0.3, 0.08), 0.55)
    profile = [
        (-0.3, 0.0),
        (0.3, 0.0),
        (0.28, 0.2),
        (0.11, 0.45),
        (0.09, 1.0),
        (-0.09, 1.0),
        (-0.11, 0.45),
        (-0.28, 0.2),
    ]
    corners = np.array(profile)
    lower = prism(corners[[0, 1, 2, 7]], width / 2, material)
    middle = prism(corners[[7, 2, 3, 6]], width / 2, material)
    return merge([lower, middle, prism(corners[[6, 3, 4, 5]], width / 2, material)])
