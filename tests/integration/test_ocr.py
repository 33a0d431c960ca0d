"""Reading text off pages, keeping it, putting it into prompts: exact words, positions, budget, no change when off."""

import io
import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from medvie_rl.config import load_config
from medvie_rl.data import ocr
from medvie_rl.data.load import load_run_data, load_schemas
from medvie_rl.data.ocr import OcrCache, OcrLine, cache_folder, read_lines
from medvie_rl.data.ocr_prompt import (
    OcrConfig,
    OcrPrompts,
    OcrText,
    check_takes_ocr,
    fit_lines,
    prompt_lines,
    without_special_tokens,
)
from medvie_rl.data.pages import Page
from medvie_rl.data.prompts import load_prompt_template, render_chat
from medvie_rl.data.reading_order import Box, reading_order, rows_of
from medvie_rl.data.store import Document, describe_image, open_split, write_split
from medvie_rl.errors import ConfigError, UserError
from medvie_rl.extraction.extractor import Asking, Extractor
from medvie_rl.extraction.inputs import InputDocument
from medvie_rl.policy_card import PolicyCard, read_policy_card

ROOT = Path(__file__).parents[2]
SLIPS = ROOT / "medvie_rl/nano/slips"
TEXTS = (
    ("PATIENT RECORD", 40, 20),
    ("Name: Maria Lopez", 40, 90),
    ("Date: 2024-03-01", 400, 92),
    ("Weight 71 kg", 40, 320),
)


@cache
def page(width: int = 720, height: int = 400) -> bytes:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(28)
    for text, x, y in TEXTS:
        draw.text((x, y), text, fill="black", font=font)
    return encoded(image)


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class CountingTokenizer:
    """One token a character, and some marks of its own."""

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(character) for character in text]}

    def get_added_vocab(self) -> dict[str, int]:
        return {"<think>": 1, "<|image_pad|>": 2}


def dataset(folder: Path) -> Path:
    key, size = describe_image(page())
    made = Document(
        id="record", document_type="record", schema="record", annotation={}, image_keys=(key,), image_sizes=(size,)
    )
    write_split(folder, "train", [(made, [page()])])
    return folder


# --- reading ---------------------------------------------------------------------------------------------------------


def test_words_and_positions_of_a_page_are_exact() -> None:
    lines = read_lines(page())
    assert [line.text for line in lines] == [text for text, _, _ in TEXTS]
    for line, (_, x, y) in zip(lines, TEXTS, strict=True):
        assert line.box.x0 == pytest.approx(x / 720, abs=0.015)
        assert line.box.y0 < (y + 20) / 400 < line.box.y1
        assert line.box.y1 - line.box.y0 < 0.13
        assert 0.9 < line.confidence <= 1.0


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_every_kind_of_pixels_is_read(mode: str) -> None:
    original = Image.open(io.BytesIO(page()))
    if mode == "I;16":
        import numpy as np

        image = Image.fromarray(np.asarray(original.convert("L")).astype("uint16") * 256)
    elif "A" in mode:  # black letters on a page that is transparent: white paper
        image = Image.new("RGBA", original.size)
        letters = original.convert("L").point(lambda grey: 255 - grey)
        image.putalpha(letters)
        image = image.convert(mode)
    else:
        image = original.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    assert read_lines(buffer.getvalue())[1].text == TEXTS[1][0]


def test_a_page_larger_than_the_bound_keeps_its_positions() -> None:
    large = Image.open(io.BytesIO(page())).resize((3600, 2000), Image.Resampling.LANCZOS)
    lines = read_lines(encoded(large))
    assert [line.text for line in lines] == [text for text, _, _ in TEXTS]
    assert lines[2].box.x0 == pytest.approx(400 / 720, abs=0.015)
    assert ocr._pixels(encoded(large)).shape == (1111, 2000, 3)


def test_a_page_without_text_has_no_lines_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert read_lines(encoded(Image.new("RGB", (300, 200), "white"))) == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"", b"no image", page()[:300]])
def test_what_is_no_image_is_an_error_with_the_reason(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a readable image \(.+\)"):
        read_lines(content)


def test_missing_models_are_an_error_and_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "_MODELS", ("absent_det.onnx", *ocr._MODELS[1:]))
    with pytest.raises(UserError, match=r"models: the OCR models \['absent_det.onnx'\] are missing, and nothing is"):
        ocr._engine.__wrapped__()


# --- order -----------------------------------------------------------------------------------------------------------


def test_a_table_is_read_by_rows_and_columns_of_text_by_columns() -> None:
    cells = [Box(x0, y0, x0 + 0.1, y0 + 0.02) for x0 in (0.1, 0.5, 0.8) for y0 in (0.1, 0.15, 0.2, 0.25, 0.3)]
    assert reading_order(cells)[:6] == [0, 5, 10, 1, 6, 11]
    heading = Box(0.1, 0.02, 0.9, 0.05)
    text = [Box(x0, y0, x0 + 0.38, y0 + 0.02) for y0 in (0.1, 0.13, 0.16, 0.19) for x0 in (0.1, 0.52)]
    footer = Box(0.1, 0.5, 0.9, 0.53)
    assert reading_order([footer, *text, heading]) == [9, 1, 3, 5, 7, 2, 4, 6, 8, 0]
    assert reading_order([]) == []


def test_boxes_of_one_row_may_be_a_little_askew() -> None:
    boxes = [Box(0.5, 0.105, 0.6, 0.125), Box(0.1, 0.1, 0.2, 0.12), Box(0.1, 0.13, 0.2, 0.15)]
    assert rows_of(boxes) == [[1, 0], [2]]


# --- cache -----------------------------------------------------------------------------------------------------------


def test_a_page_is_read_once_and_kept_exactly(tmp_path: Path) -> None:
    split = open_split(dataset(tmp_path), "train")
    first, second = OcrCache(tmp_path / "ocr"), OcrCache(tmp_path / "ocr")
    (lines,) = first.lines_of(split.documents[0], split)
    assert lines == read_lines(page())
    assert second.lines_of(split.documents[0], split) == (lines,)
    assert (first.num_read, second.num_read) == (1, 0)
    (kept,) = (tmp_path / "ocr").rglob("*.json")
    assert kept.parts[-3:] == ("rapidocr-3.10.0-1", kept.stem[:2], f"{split.documents[0].image_keys[0]}.json")


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"lines": [{"text": "a"}]}', '{"lines": [{"text": 1, "box": [], "confidence": 1}]}']
)
def test_a_damaged_entry_is_read_again_and_counted(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    line = OcrLine(text="Näme", box=Box(0.1, 0.2, 0.3, 0.4), confidence=0.75)
    monkeypatch.setattr(ocr, "read_lines", lambda content: reads.append(content) or (line,))
    key = "ab" * 32
    OcrCache(tmp_path).lines_of_page(key, lambda: b"page")
    (kept,) = tmp_path.rglob("*.json")
    whole = kept.read_text(encoding="utf-8")
    kept.write_text(damage)
    again = OcrCache(tmp_path)
    assert again.lines_of_page(key, lambda: b"page") == (line,)
    assert (len(reads), again.num_read, again.num_damaged) == (2, 1, 1)
    assert kept.read_text(encoding="utf-8") == whole
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]  # nothing aside is left


def test_another_version_of_the_engine_reads_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    OcrCache(tmp_path).lines_of_page("ab" * 32, page)
    monkeypatch.setattr(ocr, "engine_version", lambda: "rapidocr-4-1")
    newer = OcrCache(tmp_path)
    newer.lines_of_page("ab" * 32, page)
    assert newer.num_read == 1


def test_an_unreadable_document_is_named(tmp_path: Path) -> None:
    split = open_split(dataset(tmp_path), "train")
    broken = replace(split.documents[0], image_keys=("ab" * 32,))

    class Source:
        def images(self, document: Document) -> dict[str, bytes]:
            return {"ab" * 32: b"no image"}

    with pytest.raises(ValueError, match=r"document 'record': not a readable image"):
        OcrCache(tmp_path / "ocr").lines_of(broken, Source())


def test_where_text_is_kept() -> None:
    assert cache_folder("data/visits") == Path("data/visits/ocr")
    assert cache_folder("s3://bucket/visits", "/scratch/ocr") == Path("/scratch/ocr")
    with pytest.raises(UserError, match=r"s3://bucket/visits: name a local folder"):
        cache_folder("s3://bucket/visits")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be kept there"):
        OcrCache(tmp_path / "file").lines_of_page("ab" * 32, page)


# --- prompts ---------------------------------------------------------------------------------------------------------


def line(text: str, x0: float, y0: float) -> OcrLine:
    return OcrLine(text=text, box=Box(x0, y0, x0 + 0.2, y0 + 0.02), confidence=1.0)


def test_layout_says_row_column_and_page() -> None:
    first = [line("a", 0.0, 0.0), line("b", 0.26, 0.14), line("c", 0.99, 0.99)]
    assert prompt_lines([first], layout=True) == ["[r01 c1] a", "[r04 c2] b", "[r20 c4] c"]
    assert prompt_lines([first[:1], first[1:2]], layout=True) == ["[p1 r01 c1] a", "[p2 r04 c2] b"]
    assert prompt_lines([first[:1], first[1:2]], layout=False) == ["a", "b"]


def test_the_budget_keeps_whole_lines_from_the_top() -> None:
    lines = ["abcd", "ef", "ghijkl"]
    for budget, kept in [(3, 0), (4, 1), (6, 1), (7, 2), (13, 2), (14, 3), (99, 3)]:
        assert fit_lines(lines, budget, len) == OcrText(lines=tuple(lines[:kept]), num_left_out=3 - kept)


def test_text_on_a_page_cannot_be_a_mark_of_the_tokenizer() -> None:
    assert (
        without_special_tokens("a <think> <|image_pad|>", ["<think>", "<|image_pad|>"]) == "a < think> < |image_pad|>"
    )


def test_prompts_take_the_lines_and_report_what_did_not_fit(tmp_path: Path) -> None:
    split = open_split(dataset(tmp_path), "train")
    prompts = OcrPrompts.open(OcrConfig(mode="layout", max_tokens=50), CountingTokenizer(), tmp_path)
    said: list[str] = []
    prompts.read(split.documents, split, said.append)
    assert said == ["ocr.max_tokens=50 left out 2 recognised lines of 1 of 1 documents"]
    assert prompts.lines(split.documents[0], split) == ("[r02 c1] PATIENT RECORD", "[r06 c1] Name: Maria Lopez")
    assert (tmp_path / "ocr").is_dir()


def test_without_recognised_text_prompts_are_byte_for_byte_the_same(tmp_path: Path) -> None:
    off = OcrPrompts.open(OcrConfig(), CountingTokenizer(), tmp_path)
    split = open_split(dataset(tmp_path), "train")
    assert off.lines(split.documents[0], split) == ()
    off.read(split.documents, split, pytest.fail)
    assert not (tmp_path / "ocr").exists()
    schema = load_schemas(ROOT / "conf/schemas")["laboratory_slip"]
    nano = load_prompt_template(ROOT / "conf/prompts/nano.yaml")
    keys = schema.keys[:2]
    asked = "".join(f"{key}: {schema.field(key).description}\n" for key in keys)
    assert nano.user_text(schema, keys, reasoning=True) == f"{asked}think:"
    assert nano.user_text(schema, keys, reasoning=False) == f"{asked}json:"
    assert nano.user_text(schema, keys, reasoning=True, ocr=("a", "b")) == f"{asked}text:\na\nb\nthink:"


def test_the_text_of_the_shipped_slips_fits_the_local_configuration(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    from rollout.prompts import num_prompt_tokens

    processor: Any = AutoProcessor.from_pretrained(ROOT / "medvie_rl/nano/policy")
    split = open_split(SLIPS, "test")
    config = OcrConfig(mode="layout", max_tokens=110)
    prompts = OcrPrompts(config, processor.tokenizer, OcrCache(tmp_path))
    template, schemas = load_prompt_template(ROOT / "conf/prompts/nano.yaml"), load_schemas(ROOT / "conf/schemas")
    for document in split.documents[:3]:
        schema = schemas[document.schema]
        lines = prompts.lines(document, split)
        assert lines[0].startswith("[r")
        assert len(processor.tokenizer("\n".join(lines))["input_ids"]) <= 110
        text = template.user_text(schema, schema.keys, reasoning=True, ocr=lines)
        prompt = render_chat(processor, text)
        assert num_prompt_tokens(processor, prompt, [(height, width) for width, height in document.image_sizes]) <= 256


def trained_with(ocr: OcrConfig, folder: Path) -> Path:
    """The embedded policy as if it had been trained with these recognised texts."""
    shutil.copytree(ROOT / "medvie_rl/nano/policy", folder)
    card = PolicyCard(run="run", step=1, reasoning=True, ocr={"mode": ocr.mode, "max_tokens": ocr.max_tokens})
    card.write(folder, ROOT / "conf/prompts/nano.yaml")
    return folder


def test_extraction_asks_as_training_does(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(ROOT / "medvie_rl/nano/policy")
    split = open_split(SLIPS, "test")
    document = split.documents[0]
    schema = load_schemas(ROOT / "conf/schemas")[document.schema]
    template = load_prompt_template(ROOT / "conf/prompts/nano.yaml")
    config = OcrConfig(mode="text", max_tokens=30)
    trained = OcrPrompts(config, processor.tokenizer, OcrCache(tmp_path)).lines(document, split)
    assert trained == ("Pt Rita Lopez", "age 70")
    content = split.images(document)[document.image_keys[0]]
    asked = InputDocument(id="slip", image="slip.png", pages=(Page(content, document.image_keys[0], (1, 1)),))
    extractor = Extractor(Asking(policy=trained_with(config, tmp_path / "policy")))
    text = template.user_text(schema, schema.keys, reasoning=True, ocr=trained)
    assert extractor.prompt(asked, schema) == render_chat(processor, text)
    assert "ocr.max_tokens=30 left out 2 recognised lines of 1 of 1 documents" in extractor.note()
    plain = Extractor(Asking(policy=trained_with(OcrConfig(), tmp_path / "plain")))
    assert plain.prompt(asked, schema) == render_chat(
        processor, template.user_text(schema, schema.keys, reasoning=True)
    )


# --- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("ocr.mode=all", r"ocr.mode: expected one of none, text, layout, got 'all'"),
        ("ocr.max_tokens=0", r"ocr.max_tokens: expected at least 1, got 0"),
        ("ocr.max_token=5", r"unknown key 'ocr.max_token'; did you mean 'ocr.max_tokens'"),
    ],
)
def test_wrong_settings_are_refused(override: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config(ROOT / "conf/local.yaml", [override])


def test_a_budget_that_leaves_no_room_is_refused() -> None:
    assert load_config(ROOT / "conf/local.yaml").ocr == OcrConfig(mode="none", max_tokens=512, cache="")
    with pytest.raises(ConfigError, match=r"ocr.max_tokens: 256 tokens .* in the 256 tokens that .* lower it"):
        load_config(ROOT / "conf/local.yaml", ["ocr.mode=text", "ocr.max_tokens=256"])


def test_a_prompt_without_a_place_for_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompt.yaml"
    entries = {"key_line": "{key}", "table_line": "{key}", "column": "{key}", "reasoning": "{keys}", "direct": "{keys}"}
    path.write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(ValueError, match=r"prompt.yaml: ocr.mode puts .* and this one has no place for it"):
        check_takes_ocr(path, load_prompt_template(path))
    overrides = ["ocr.mode=text", "ocr.max_tokens=100", f"prompt={path}", f"data.path={SLIPS}"]
    with pytest.raises(ConfigError, match="has no place for it"):
        load_run_data(load_config(ROOT / "conf/local.yaml", overrides))


def test_the_policy_card_records_mode_and_budget(tmp_path: Path) -> None:
    card = PolicyCard(run="run", step=3, reasoning=True, ocr={"mode": "layout", "max_tokens": 110})
    card.write(tmp_path, ROOT / "conf/prompts/nano.yaml")
    read = read_policy_card(tmp_path)
    assert read is not None
    assert OcrConfig(**read.ocr) == OcrConfig(mode="layout", max_tokens=110)
    old = json.loads((tmp_path / "medvie.json").read_text())
    del old["ocr"]
    (tmp_path / "medvie.json").write_text(json.dumps(old))
    older = read_policy_card(tmp_path)
    assert older is not None
    assert OcrConfig(**older.ocr).mode == "none"
