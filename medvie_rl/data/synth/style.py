"""The decisions that make one document look the way it does."""

from dataclasses import dataclass
from typing import Literal

from medvie_rl.data.synth.fonts import Face, Weight
from medvie_rl.data.synth.shapes import BLACK, Colour

A4 = (1240, 1754)  # pixels at 150 dpi
A5 = (874, 1240)
ROLL = 20_000  # height of a receipt before it is cut below its last line

HeadStyle = Literal["left", "centre", "right", "band", "logo", "split", "receipt"]
TitleStyle = Literal["centre", "left", "ruled", "boxed", "accent"]
PairStyle = Literal["inline", "aligned", "stacked", "boxed", "dotted"]
TableStyle = Literal["grid", "horizontal", "zebra", "none"]
HeadingStyle = Literal["caps", "underlined", "bold", "margin", "band", "accent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Every decision about one document's looks. Lengths in pixels at 150 dpi."""

    template: str
    family: str
    size: int
    leading: float = 1.4
    margins: tuple[int, int, int, int] = (118, 100, 118, 110)  # left, top, right, bottom
    ink: Colour = BLACK
    accent: Colour = BLACK
    colour: bool = False
    head: HeadStyle = "left"
    title: TitleStyle = "centre"
    pairs: PairStyle = "inline"
    pair_columns: int = 1
    bold_labels: bool = True
    panel: bool = False  # pairs on a tinted panel
    table: TableStyle = "grid"
    heading: HeadingStyle = "caps"
    columns: int = 1
    sidebar: int = 0  # width of a coloured bar that holds the letterhead
    indent: int = 0  # width of the margin that holds the headings
    justify: bool = False
    page_number: bool = False
    ornament: Literal["", "barcode", "matrix"] = ""
    bullet: str = "•"
    paper: tuple[int, int] = A4

    @property
    def line(self) -> int:
        """Height of a line of running text."""
        return round(self.size * self.leading)

    @property
    def tint(self) -> Colour:
        """The accent colour, very light."""
        red, green, blue = (round(255 - (255 - part) * 0.11) for part in self.accent)
        return red, green, blue

    @property
    def soft(self) -> Colour:
        """The colour of labels and small print, between ink and paper."""
        red, green, blue = (round(part + (255 - part) * 0.34) for part in self.ink)
        return red, green, blue

    def face(self, weight: Weight = "plain", scale: float = 1.0) -> Face:
        """The document's font, `scale` times as large as running text."""
        return Face(self.family, max(10, round(self.size * scale)), weight)
