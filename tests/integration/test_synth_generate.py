"""Synthetic documents: the same bytes in any process, exact annotations, and datasets that read back."""

import hashlib
import io
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from medvie_rl.data.load import load_schemas
from medvie_rl.data.store import open_split
from medvie_rl.data.synth.generate import check_annotation, draw_document, write_documents
from medvie_rl.data.synth.kinds import KINDS, LANGUAGES
from medvie_rl.data.synth.layout import draw, missing_texts
from medvie_rl.data.synth.templates import suitable
from medvie_rl.errors import UserError

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "conf" / "schemas"
KIND = next(iter(KINDS))
LANGUAGE = LANGUAGES[KIND][0]


def test_same_bytes_in_another_process() -> None:
    program = (
        "import hashlib, sys; from medvie_rl.data.synth.generate import draw_document as d; "
        f"print([hashlib.sha256(p).hexdigest() for i in range(3) for p in "
        f"d({KIND!r}, seed=7, index=i, language={LANGUAGE!r}).pages])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": str(ROOT)}
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    here = [
        hashlib.sha256(page).hexdigest()
        for index in range(3)
        for page in draw_document(KIND, seed=7, index=index, language=LANGUAGE).pages
    ]
    assert other.stdout.strip() == str(here)


def test_noise_changes_neither_content_nor_layout() -> None:
    clean = draw_document(KIND, seed=1, index=0, language=LANGUAGE, noise="clean")
    scan = draw_document(KIND, seed=1, index=0, language=LANGUAGE, noise="scan")
    assert clean.content == scan.content and clean.document_id == scan.document_id
    assert clean.pages != scan.pages and len(clean.pages) == len(scan.pages)
    assert [_size(page) for page in clean.pages] == [_size(page) for page in scan.pages]
    assert (clean.noise, scan.noise) == ("clean", "scan")


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_is_drawn_in_full_and_its_annotation_fits(kind: str) -> None:
    schemas = load_schemas(SCHEMAS)
    for language in LANGUAGES[kind]:
        content = KINDS[kind](random.Random(f"{kind} {language}"), language)
        check_annotation(content, schemas, kind)
        pages = draw(content, random.Random(3))
        assert 1 <= len(pages) <= 3
        assert missing_texts(content, pages) == []
        assert suitable(content)


def test_dataset_reads_back_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    kinds = list(KINDS)[:2]
    nums = {"train": 4, "validation": 2}
    for processes in (1, 2):
        write_documents(
            tmp_path / str(processes), kinds, nums, seed=3, languages=(LANGUAGE,), processes=processes,
            preview=tmp_path / f"{processes}.png", schemas=SCHEMAS,
        )  # fmt: skip
    keys: dict[str, list[str]] = {}
    for split, num in nums.items():
        one, two = (open_split(tmp_path / name, split) for name in ("1", "2"))
        assert list(one) == list(two) and len(one) == num
        keys[split] = [key for document in one for key in document.image_keys]
        for document in one:
            assert document.synthetic and document.license == "Apache-2.0" and document.specialty
            assert list(one.images(document)) == list(document.image_keys)
    assert not set(keys["train"]) & set(keys["validation"])
    first = open_split(tmp_path / "1", "train").documents[0]
    again = draw_document(KIND, seed="train-3", index=0, language=LANGUAGE)
    assert first.id == again.document_id == f"{KIND}-{LANGUAGE}-train-3-00000"
    assert first.annotation == again.content.annotation
    sheet = Image.open(tmp_path / "1.png")
    assert sheet.size == (4 * 410 + 14, 598 + 14)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_defective_annotation_is_refused_before_it_is_written() -> None:
    schemas = load_schemas(SCHEMAS)
    content = KINDS[KIND](random.Random(0), LANGUAGE)
    wrong = replace(content, annotation={**content.annotation, "no_such_key": 1})
    with pytest.raises(
        ValueError, match=rf"document 'x': the annotation does not fit schema '{content.schema}': no_such_key"
    ):
        check_annotation(wrong, schemas, "document 'x'")
    with pytest.raises(ValueError, match="document 'x': unknown schema 'nothing'"):
        check_annotation(replace(content, schema="nothing"), schemas, "document 'x'")


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no kind of document 'poem'; there are {KIND}"):
        draw_document("poem", seed=0, index=0)
    with pytest.raises(UserError, match=f"kind '{KIND}' is not written in 'xx'; it is in {LANGUAGE}"):
        draw_document(KIND, seed=0, index=0, language="xx")
    with pytest.raises(UserError, match="no noise level 'rain'"):
        write_documents(tmp_path / "a", [KIND], {"train": 1}, seed=0, noise="rain", schemas=SCHEMAS)
    with pytest.raises(UserError, match=r"none of the kinds .* is written in 'xx'"):
        write_documents(tmp_path / "a", [KIND], {"train": 1}, seed=0, languages=(LANGUAGE, "xx"), schemas=SCHEMAS)
    with pytest.raises(UserError, match="no kind of document 'poem'"):
        write_documents(tmp_path / "a", [KIND, "poem"], {"train": 1}, seed=0, schemas=SCHEMAS)
    with pytest.raises(UserError, match="processes: expected at least 1, got 0"):
        write_documents(tmp_path / "a", [KIND], {"train": 1}, seed=0, processes=0, schemas=SCHEMAS)
    for preview, num in ((tmp_path / "sheet.jpg", 1), (tmp_path / "sheet.png", 0)):
        with pytest.raises(UserError, match="expected the name of a PNG file and at least one document"):
            write_documents(tmp_path / "a", [KIND], {"train": num}, seed=0, preview=preview, schemas=SCHEMAS)
    with pytest.raises(UserError, match=r"expected 0 or more documents a split, got \{'train': -1\}"):
        write_documents(tmp_path / "a", [KIND], {"train": -1}, seed=0, schemas=SCHEMAS)
    assert not (tmp_path / "a").exists()
    (tmp_path / "note").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="not empty"):
        write_documents(tmp_path, [KIND], {"train": 1}, seed=0, schemas=SCHEMAS)


def _size(page: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(page)).size
