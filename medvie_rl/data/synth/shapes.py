"""What is drawn on a page: texts, rules, areas and curves at pixel positions, and the painter that draws them."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image, ImageDraw

from medvie_rl.data.synth.fonts import Face, runs, text_width

Colour = tuple[int, int, int]
BLACK: Colour = (18, 18, 20)
WHITE: Colour = (255, 255, 255)
_FINER = 4  # curves are drawn this many times larger, then reduced, for smooth edges


@dataclass(frozen=True, slots=True)
class Text:
    """One line; (`x`, `y`) is where its baseline starts. `source` is the whole text of which it is a line.

    `gap` pixels are added to every blank of a justified line.
    """

    x: float
    y: float
    text: str
    face: Face
    fill: Colour
    source: str
    gap: float = 0.0


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle, filled or framed; thin ones are rules."""

    x0: float
    y0: float
    x1: float
    y1: float
    fill: Colour | None = None
    outline: Colour | None = None
    width: int = 1
    radius: int = 0


@dataclass(frozen=True, slots=True)
class Dots:
    """A dotted rule from (`x0`, `y`) to (`x1`, `y`)."""

    x0: float
    x1: float
    y: float
    fill: Colour


@dataclass(frozen=True, slots=True)
class Curve:
    """A polyline as a pen draws it, or a filled polygon."""

    points: tuple[tuple[float, float], ...]
    fill: Colour
    width: float = 2.0
    filled: bool = False


Shape = Text | Area | Dots | Curve


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What must not be torn apart by a page break: shapes from (0, 0) down, and how they may be placed.

    `gap` is the space above it in pixels, unless it comes first; `keep` holds it together with the next piece;
    `repeat` is drawn again above it at the top of a new page (the head of a table).
    """

    height: float
    shapes: tuple[Shape, ...]
    gap: float = 0.0
    keep: bool = False
    repeat: "Piece | None" = None


@dataclass(frozen=True, slots=True)
class TextBox:
    """Where a line of text was drawn: its ink, (x0, y0, x1, y1) in pixels."""

    text: str
    source: str
    box: tuple[float, float, float, float]


@dataclass(slots=True)
class Page:
    """A page under construction."""

    size: tuple[int, int]
    shapes: list[Shape] = field(default_factory=list)

    def add(self, shapes: Iterable[Shape], dx: float = 0.0, dy: float = 0.0) -> None:
        """Place shapes, moved by (`dx`, `dy`)."""
        self.shapes += [moved(shape, dx, dy) for shape in shapes]

    def boxes(self) -> tuple[TextBox, ...]:
        """The ink of every line of text."""
        return tuple(TextBox(shape.text, shape.source, ink(shape)) for shape in self.shapes if isinstance(shape, Text))

    def paint(self, colour: bool, paper: Colour = WHITE) -> Image.Image:
        """The page as a picture, in colour or in grey."""
        image = Image.new("RGB" if colour else "L", self.size, paper if colour else grey(paper))
        draw = ImageDraw.Draw(image)
        for shape in self.shapes:
            if isinstance(shape, Curve):
                _paint_curve(image, shape, colour)
            else:
                _paint(image, draw, shape, colour)
        return image


def moved(shape: Shape, dx: float, dy: float) -> Shape:
    """The same shape elsewhere."""
    if isinstance(shape, Text):
        return replace(shape, x=shape.x + dx, y=shape.y + dy)
    if isinstance(shape, Area):
        return replace(shape, x0=shape.x0 + dx, y0=shape.y0 + dy, x1=shape.x1 + dx, y1=shape.y1 + dy)
    if isinstance(shape, Dots):
        return replace(shape, x0=shape.x0 + dx, x1=shape.x1 + dx, y=shape.y + dy)
    return replace(shape, points=tuple((x + dx, y + dy) for x, y in shape.points))


def ink(text: Text) -> tuple[float, float, float, float]:
    """The box around the ink of a line of text."""
    top, bottom = 0.0, 0.0
    for part, font in runs(text.face, text.text):
        _, upper, _, lower = font.getbbox(part, anchor="ls")
        top, bottom = min(top, upper), max(bottom, lower)
    x, y = round(text.x), round(text.y)
    return x, y + top, x + text_width(text.face, text.text) + text.gap * text.text.count(" "), y + bottom


def grey(colour: Colour) -> int:
    """The luma of a colour, 0 to 255."""
    red, green, blue = colour
    return (299 * red + 587 * green + 114 * blue) // 1000


def _paint(image: Image.Image, draw: ImageDraw.ImageDraw, shape: Text | Area | Dots, colour: bool) -> None:
    def shade(value: Colour) -> Colour | int:
        return value if colour else grey(value)

    if isinstance(shape, Text):
        _paint_text(draw, shape, shade(shape.fill))
    elif isinstance(shape, Dots):
        for x in range(round(shape.x0), round(shape.x1), 6):
            draw.rectangle((x, round(shape.y), x + 1, round(shape.y) + 1), fill=shade(shape.fill))
    elif shape.radius > 2 and shape.fill is not None:
        _paint_rounded(image, shape, shade(shape.fill))
    else:
        corners = (round(shape.x0), round(shape.y0), round(shape.x1), round(shape.y1))
        fill = None if shape.fill is None else shade(shape.fill)
        outline = None if shape.outline is None else shade(shape.outline)
        draw.rounded_rectangle(corners, shape.radius, fill=fill, outline=outline, width=shape.width)


def _paint_rounded(image: Image.Image, area: Area, fill: Colour | int) -> None:
    width, height = round(area.x1 - area.x0), round(area.y1 - area.y0)
    mask = Image.new("L", (width * _FINER, height * _FINER), 0)
    corners = (0, 0, mask.width - 1, mask.height - 1)
    ImageDraw.Draw(mask).rounded_rectangle(corners, area.radius * _FINER, fill=255)
    image.paste(fill, (round(area.x0), round(area.y0)), mask.resize((width, height), Image.Resampling.BOX))


def _paint_text(draw: ImageDraw.ImageDraw, text: Text, fill: Colour | int) -> None:
    x, hand = float(round(text.x)), text.face.weight == "handwritten"
    for part, font in runs(text.face, text.text):
        pieces: Sequence[str] = [part]
        if text.gap or hand:
            words = part.split(" ")
            pieces = [word + " " for word in words[:-1]] + words[-1:]
        for piece in pieces:
            # A hand does not keep the line: each word sits a little higher or lower, always the same for a text.
            y = round(text.y) + (zlib.crc32(f"{text.text}{x}".encode()) % 5 - 2 if hand else 0)
            draw.text((round(x), y), piece, fill=fill, font=font, anchor="ls")
            x += font.getlength(piece) + (text.gap if piece.endswith(" ") else 0)


def _paint_curve(image: Image.Image, curve: Curve, colour: bool) -> None:
    pad = curve.width + 2
    x0, y0 = (int(min(point[axis] for point in curve.points) - pad) for axis in (0, 1))
    x1, y1 = (int(max(point[axis] for point in curve.points) + pad) for axis in (0, 1))
    size = x1 - x0, y1 - y0
    mask = Image.new("L", (size[0] * _FINER, size[1] * _FINER), 0)
    points = [((x - x0) * _FINER, (y - y0) * _FINER) for x, y in curve.points]
    draw = ImageDraw.Draw(mask)
    if curve.filled:
        draw.polygon(points, fill=255)
    else:
        draw.line(points, fill=255, width=max(1, round(curve.width * _FINER)), joint="curve")
    mask = mask.resize(size, Image.Resampling.BOX)
    image.paste(curve.fill if colour else grey(curve.fill), (x0, y0), mask)
