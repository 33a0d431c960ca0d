"""The pages of synthetic documents: every text drawn, inside the page, none over another, no glyph missing."""

import random
from functools import cache
from itertools import combinations

import pytest
from fontTools.ttLib import TTFont  # type: ignore[import-untyped,unused-ignore]
from PIL import Image

from medvie_rl.data.synth.blocks import (
    Content,
    Items,
    Letterhead,
    Pair,
    Pairs,
    Paragraph,
    Signature,
    Stamp,
    TableBlock,
    Title,
)
from medvie_rl.data.synth.fonts import FAMILIES, HANDWRITING, Face, covers, font_for, glyphs, runs, text_width
from medvie_rl.data.synth.layout import draw, missing_texts
from medvie_rl.data.synth.setting import wrap
from medvie_rl.data.synth.stamps import DrawnPage
from medvie_rl.data.synth.style import A4, A5
from medvie_rl.data.synth.templates import TEMPLATES, suitable, texts

PROSE = (
    "The patient is a 62-year-old man who presented with a two-week history of progressive exertional dyspnoea. "
    "There is no chest pain, no palpitations and no syncope. He takes lisinopril 10 mg daily. "
)


def letter(*, num_rows: int = 3, prose: int = 3) -> Content:
    """A hospital letter with a block of every type."""
    return Content(
        kind="letter",
        document_type="letter",
        specialty="cardiology",
        language="en",
        schema="letter",
        letterhead=Letterhead(name="St. Alban’s Hospital", lines=("Harley Road 220, London", "Tel 020 7946 0912")),
        blocks=(
            Title(text="Discharge Summary"),
            Pairs(
                title="Patient",
                pairs=(
                    Pair(label="Name", value="Jonathan Ashworth"),
                    Pair(label="Born", value="03 Jan 1962"),
                    Pair(label="", value="NHS 485 777 3456"),
                    Pair(label="Consultant", value="Dr. Amara Okafor", emphasis="handwritten"),
                    Pair(label="Reason for admission", value=PROSE, emphasis="bold"),
                ),
            ),
            Paragraph(title="History of present illness", text=f"{PROSE * prose}\n{PROSE}"),
            Items(title="Diagnoses", items=("Heart failure, NYHA III", "Hypertension"), numbered=True),
            TableBlock(
                title="Results",
                columns=("Test", "Result", "Unit"),
                rows=tuple((f"Ferritin {number}", f"≤ {number}.5 ↑", "µg/L") for number in range(num_rows)),
                group_titles={0: "Iron", num_rows - 1: "More iron"},
                bold_cells=frozenset({(0, 1)}),
                numeric_columns=frozenset({1}),
            ),
            Signature(name="Dr. A. Okafor", caption="Consultant"),
            Signature(name="Dr. P. Lindqvist"),
            Stamp(lines=("CARDIOLOGY", "DISCHARGED 18 MAR")),
        ),
        annotation={"patient": "Jonathan Ashworth", "nhs_number": "485 777 3456", "results": ["≤ 0.5 ↑"]},
        footer="Confidential. If you received this letter in error please return it.",
    )


def receipt() -> Content:
    """A till receipt in Vietnamese."""
    return Content(
        kind="receipt",
        document_type="receipt",
        specialty="pharmacy",
        language="vi",
        schema="receipt",
        narrow=True,
        letterhead=Letterhead(name="Nhà thuốc Minh Châu", lines=("128 Nguyễn Trãi, Quận 5, TP. Hồ Chí Minh",)),
        blocks=(
            Title(text="Hóa đơn bán lẻ"),
            TableBlock(
                columns=("Thuốc", "SL", "Thành tiền"),
                rows=(("Paracetamol 500 mg viên nén bao phim", "20", "24.000"), ("Nước muối", "2", "10.000")),
                numeric_columns=frozenset({1, 2}),
            ),
            Pairs(pairs=(Pair(label="Tổng cộng", value="34.000 đ", emphasis="bold"),)),
        ),
        annotation={"total": "34.000 đ"},
        footer="Cảm ơn quý khách",
    )


@cache
def _code_points(path: str) -> frozenset[int]:
    with TTFont(path, lazy=True) as font:
        return frozenset(font.getBestCmap())


def _hits(pages: list[DrawnPage]) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes share more than two pixels in both directions."""
    return [
        (one.text, other.text)
        for page in pages
        for one, other in combinations(page.texts, 2)
        if min(one.box[2], other.box[2]) - max(one.box[0], other.box[0]) > 2
        and min(one.box[3], other.box[3]) - max(one.box[1], other.box[1]) > 2
    ]


@pytest.mark.parametrize("template", [name for name in TEMPLATES if name != "receipt"])
@pytest.mark.parametrize("seed", [0, 1])
def test_texts_are_inside_the_page_and_apart(template: str, seed: int) -> None:
    pages = draw(letter(), random.Random(seed), template=template)
    assert _hits(pages) == []
    for page in pages:
        assert page.image.size in (A4, A5)
        for text in (*page.texts, *page.stamps):
            x0, y0, x1, y1 = text.box
            assert x0 >= 0 and y0 >= 0 and x1 <= page.image.width and y1 <= page.image.height, text
    assert missing_texts(letter(), pages) == []
    drawn = {text.source for page in pages for text in page.texts}
    assert {"Jonathan Ashworth", "NHS 485 777 3456", "≤ 0.5 ↑", "Dr. Amara Okafor"} <= drawn


def test_ink_lies_where_the_boxes_say() -> None:
    (page,) = draw(letter(num_rows=2, prose=1), random.Random(3), template="letter_left")
    grey = page.image.convert("L")
    for text in page.texts:
        assert min(grey.crop(tuple(round(edge) for edge in text.box)).getdata()) < 160, text  # type: ignore[arg-type]
    cleared = grey.copy()
    for text in (*page.texts, *page.stamps):
        x0, y0, x1, y1 = text.box
        cleared.paste(255, (round(x0) - 2, round(y0) - 3, round(x1) + 2, round(y1) + 3))
    dark = sum(pixel < 128 for pixel in cleared.getdata())
    assert dark < 0.35 * sum(pixel < 128 for pixel in grey.getdata())  # what is left are rules and scribbles


def test_receipt_is_narrow_and_cut_below_its_last_line() -> None:
    for seed in range(4):
        (page,) = draw(receipt(), random.Random(seed))
        width, height = page.image.size
        assert 480 <= width <= 600
        end = max(text.box[3] for text in page.texts)
        assert end < height < end + 120
        assert _hits([page]) == []
    assert suitable(receipt()) == ("receipt",)


def test_long_document_flows_and_repeats_the_head_of_its_table() -> None:
    content = letter(num_rows=60)
    pages = draw(content, random.Random(1), template="letter_centre")
    assert 2 <= len(pages) <= 3
    heads = [sum(text.text == "Test" for text in page.texts) for page in pages]
    assert sum(heads) >= 2 and max(heads) == 1
    assert missing_texts(content, pages) == []
    assert missing_texts(content, pages[:1]) != []


def test_document_that_cannot_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not fit on 3 pages; it needs \d+ pages"):
        draw(letter(num_rows=400), random.Random(0), template="form")


def test_row_with_a_cell_too_few_is_refused() -> None:
    table = TableBlock(title="T", columns=("a", "b"), rows=(("1", "2"), ("3",)))
    content = Content(
        kind="k", document_type="k", specialty="", language="en", schema="k", letterhead=None, blocks=(table,),
        annotation={},
    )  # fmt: skip
    with pytest.raises(ValueError, match="row 1 has 1 cells, but there are 2 columns"):
        draw(content, random.Random(0))


def test_same_generator_same_pages_and_templates_differ() -> None:
    def pixels(template: str, seed: int) -> bytes:
        return draw(letter(), random.Random(seed), template=template)[0].image.tobytes()

    assert pixels("form", 5) == pixels("form", 5)
    assert pixels("form", 5) != pixels("form", 6)
    assert len({pixels(name, 5) for name in TEMPLATES if name != "receipt"}) == len(TEMPLATES) - 1


def test_suitable_templates() -> None:
    assert "two_columns" not in suitable(letter(prose=1))
    assert "two_columns" in suitable(letter(prose=8))
    assert len(suitable(letter(prose=8))) == 10


@pytest.mark.parametrize("text", ["Trần Thị Ngọc Ánh", "2 µg/L ≤ 5 ↑", "Straße №4 → β", "Ω ½ ± 10⁹"])
@pytest.mark.parametrize("weight", ["plain", "bold", "italic", "handwritten"])
def test_no_glyph_is_missing(text: str, weight: str) -> None:
    for family in FAMILIES:
        for part, font in runs(Face(family, 24, weight), text):  # type: ignore[arg-type]
            assert {ord(letter) for letter in part} - {32} <= _code_points(str(font.path)), (family, part)


def test_fallback_is_used_only_where_needed() -> None:
    assert font_for("Roboto", 24, "plain", "Ánh").getname()[0] == "Roboto"
    assert font_for("Roboto", 24, "plain", "↑").getname()[0] == "DejaVu Sans"
    names = [font.getname()[0] for _, font in runs(Face("Caladea", 24), "high ☑ value")]
    assert names == ["Caladea", "DejaVu Sans", "Caladea"]
    assert covers("Source Serif Pro", "Nguyễn") and not covers("STIX", "Nguyễn")
    assert ord("µ") in glyphs(HANDWRITING.package, HANDWRITING.plain)
    with pytest.raises(ValueError, match=r"no packaged font draws '漢' \(U\+6F22\)"):
        font_for("Roboto", 24, "plain", "漢")


def test_wrap_breaks_at_blanks_and_long_codes_at_their_signs() -> None:
    face = Face("Roboto", 20)
    lines = wrap("Jugular venous pressure raised", face, 160)
    assert "".join(lines).replace(" ", "") == "Jugularvenouspressureraised"
    assert all(text_width(face, line) <= 160 for line in lines)
    assert wrap("LAB-2024/118-3399-77", face, 120)[0][-1] in "-/"
    assert wrap("a\nb", face, 100) == ["a", "b"]


def test_stamp_leaves_the_print_below_it_dark() -> None:
    content = letter(num_rows=2, prose=1)
    for seed in range(3):
        pages = draw(content, random.Random(seed), template="hospital_band")
        assert [stamp.text for stamp in pages[-1].stamps] == ["CARDIOLOGY", "DISCHARGED 18 MAR"]
        for text in pages[-1].texts:
            box = tuple(round(edge) for edge in text.box)
            assert isinstance(pages[-1].image, Image.Image) and box[2] > box[0]
            low, high = pages[-1].image.convert("L").crop(box).getextrema()  # type: ignore[arg-type,misc]
            assert high - low > 60, text


def test_texts_lists_everything_printed() -> None:
    listed = texts(receipt())
    assert listed[0] == "Nhà thuốc Minh Châu" and listed[-1] == "Cảm ơn quý khách"
    assert "Nước muối" in listed and "Tổng cộng" in listed and "" not in listed
