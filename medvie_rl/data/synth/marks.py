"""Marks that carry no annotation: logos, barcodes, scribbled signatures; and rubber stamps, which may carry one."""

import math
import random

from PIL import Image, ImageChops, ImageDraw

from medvie_rl.data.synth.fonts import Face, font_for, text_width
from medvie_rl.data.synth.shapes import WHITE, Area, Colour, Curve, Shape, grey

_STAMP_INKS: tuple[Colour, ...] = ((36, 62, 158), (172, 32, 44), (86, 40, 140), (24, 104, 78))


def logo(size: float, colour: Colour, rng: random.Random) -> list[Shape]:
    """An emblem in a square of `size` pixels, made of a few shapes."""
    kind = rng.choice(("cross", "ring", "drop", "pulse", "hexagon", "leaves"))
    if kind == "cross":
        arm = size * 0.3
        low, high = (size - arm) / 2, (size + arm) / 2
        return [
            Area(0, 0, size, size, fill=colour, radius=round(size * rng.choice((0.08, 0.25, 0.5)))),
            Area(low, size * 0.18, high, size * 0.82, fill=WHITE),
            Area(size * 0.18, low, size * 0.82, high, fill=WHITE),
        ]
    if kind == "ring":
        inner = tuple((size / 2 + size * 0.2 * x, size / 2 + size * 0.2 * y) for x, y in _circle(24))
        return [
            Area(0, 0, size, size, outline=colour, width=max(3, round(size * 0.09)), radius=round(size / 2)),
            Curve(inner, colour, filled=True),
        ]
    if kind == "drop":
        points = [(0.5 + 0.36 * math.sin(t) * math.sin(t / 2) ** 1.4, 0.52 - 0.46 * math.cos(t)) for t in _turn(40)]
        return [Curve(tuple((x * size, y * size) for x, y in points), colour, filled=True)]
    if kind == "pulse":
        steps = ((0, 0.5), (0.28, 0.5), (0.38, 0.3), (0.5, 0.85), (0.62, 0.12), (0.72, 0.5), (1, 0.5))
        return [Curve(tuple((x * size, y * size) for x, y in steps), colour, width=max(3.0, size * 0.07))]
    if kind == "hexagon":
        outer = tuple((size / 2 * (1 + x), size / 2 * (1 + y)) for x, y in _circle(6))
        inner = tuple((size / 2 * (1 + 0.55 * x), size / 2 * (1 + 0.55 * y)) for x, y in _circle(6))
        return [Curve(outer, colour, filled=True), Curve(inner, WHITE, filled=True)]
    left = ((0.5, 0.95), (0.12, 0.62), (0.06, 0.2), (0.4, 0.42), (0.5, 0.95))
    right = tuple((1 - x, y) for x, y in left)
    return [Curve(tuple((x * size, y * size) for x, y in side), colour, filled=True) for side in (left, right)]


def _circle(count: int) -> list[tuple[float, float]]:
    return [(math.cos(angle), math.sin(angle)) for angle in _turn(count)]


def _turn(count: int) -> list[float]:
    return [2 * math.pi * step / count for step in range(count)]


def barcode(width: float, height: float, colour: Colour, rng: random.Random) -> list[Shape]:
    """Bars of random widths; they encode nothing."""
    shapes, x = list[Shape](), 0.0
    while x < width - 8:
        bar = rng.choice((2, 2, 4, 6))
        shapes.append(Area(x, 0, x + bar - 1, height, fill=colour))
        x += bar + rng.choice((2, 2, 4, 6))
    return shapes


def matrix(size: float, colour: Colour, rng: random.Random) -> list[Shape]:
    """A square of random dots with three corner marks, which looks like a two-dimensional code; it encodes nothing."""
    count = 25
    cell = max(2, int(size // count))
    shapes: list[Shape] = []
    for row in range(count):
        for column in range(count):
            in_corner = ((row < 8 or row > count - 9) and column < 8) or (row < 8 and column > count - 9)
            if not in_corner and rng.random() < 0.48:
                x, y = column * cell, row * cell
                shapes.append(Area(x, y, x + cell - 1, y + cell - 1, fill=colour))
    for row, column in ((0, 0), (0, count - 7), (count - 7, 0)):
        x, y = column * cell, row * cell
        shapes.append(Area(x, y, x + 7 * cell - 1, y + 7 * cell - 1, outline=colour, width=cell))
        shapes.append(Area(x + 2 * cell, y + 2 * cell, x + 5 * cell - 1, y + 5 * cell - 1, fill=colour))
    return shapes


def scribble(width: float, height: float, colour: Colour, rng: random.Random) -> Curve:
    """A signature that nobody can read: a smooth curve through random points, left to right."""
    count = rng.randint(7, 11)
    points = [(width * (0.06 + 0.8 * step / count), height * 0.6) for step in range(count + 1)]
    anchors = [
        (x + rng.uniform(-0.07, 0.05) * width, y + height * rng.uniform(-0.55, 0.25) * (1.0 if i % 2 else -0.35))
        for i, (x, y) in enumerate(points)
    ]
    anchors[0] = (anchors[0][0], height * rng.uniform(0.1, 0.4))
    anchors += [(width * rng.uniform(0.2, 0.5), height * 0.92), (width * 0.98, height * rng.uniform(0.6, 0.8))]
    return Curve(tuple(_smooth(anchors)), colour, width=rng.uniform(2.2, 3.4))


def _smooth(anchors: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A Catmull-Rom spline through the anchors."""
    path = [anchors[0], *anchors, anchors[-1]]
    points: list[tuple[float, float]] = []
    for p0, p1, p2, p3 in zip(path, path[1:], path[2:], path[3:], strict=False):
        for step in range(10):
            t = step / 10
            points.append((_spline(t, p0[0], p1[0], p2[0], p3[0]), _spline(t, p0[1], p1[1], p2[1], p3[1])))
    return [*points, anchors[-1]]


def _spline(t: float, a: float, b: float, c: float, d: float) -> float:
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def stamp(lines: tuple[str, ...], size: int, rng: random.Random, *, colour: bool) -> tuple[Image.Image, Image.Image]:
    """A rubber stamp, rotated: its ink and how much of it there is at each pixel (mode L)."""
    ink = rng.choice(_STAMP_INKS)
    faces = [Face("Roboto", round(size * (1.12 if number == 0 else 0.92)), "bold") for number in range(len(lines))]
    wide = max(text_width(face, line) for face, line in zip(faces, lines, strict=True))
    tall = sum(face.size * 1.3 for face in faces)
    pad = size * 0.8
    box = round(wide + 2 * pad), round(tall + 1.7 * pad)
    mask = Image.new("L", (box[0] + 8, box[1] + 8), 0)
    draw = ImageDraw.Draw(mask)
    radius = round(size * rng.choice((0.15, 0.5, 1.2)))
    draw.rounded_rectangle((3, 3, *box), radius, outline=255, width=max(3, size // 7))
    if rng.random() < 0.5:
        draw.rounded_rectangle((10, 10, box[0] - 7, box[1] - 7), max(1, radius - 6), outline=255, width=2)
    y = pad * 0.9
    for face, line in zip(faces, lines, strict=True):
        font = font_for(face.family, face.size, face.weight, line)
        draw.text((3 + box[0] / 2, y + face.size * 0.65), line, fill=255, font=font, anchor="mm")
        y += face.size * 1.3
    # Uneven pressure: a coarse grid of strengths, smoothed.
    grain = Image.new("L", (8, 5))
    grain.putdata([rng.randint(150, 235) for _ in range(40)])
    mask = ImageChops.multiply(mask, grain.resize(mask.size, Image.Resampling.BICUBIC))
    mask = mask.rotate(rng.uniform(-11, 11), Image.Resampling.BICUBIC, expand=True)
    return Image.new("RGB" if colour else "L", mask.size, ink if colour else grey(ink)), mask
