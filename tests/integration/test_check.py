"""`medvie data check`: every kind of finding is found where it is, with document id and key, and nothing else is."""

import hashlib
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medvie_rl.data.check import PromptLimit, check_command, check_dataset, prompt_limit
from medvie_rl.data.check_duplicates import MAX_DISTANCE, PageHashes, page_hashes
from medvie_rl.data.check_findings import KINDS, Finding
from medvie_rl.data.load import load_schemas
from medvie_rl.data.prompts import load_prompt_template
from medvie_rl.data.store import Document, write_split
from medvie_rl.errors import UserError
from medvie_rl.policy_card import PolicyCard
from rewards.schema import FieldSpec, Schema

ROOT = Path(__file__).resolve().parents[2]
POLICY, PROMPT, SLIPS = ROOT / "medvie_rl/nano/policy", ROOT / "conf/prompts/nano.yaml", ROOT / "medvie_rl/nano/slips"
SCHEMA = Schema(
    name="note",
    document_type="note",
    description="a note",
    fields=(
        FieldSpec(key="name", description="the patient's name", kind="person_name"),
        FieldSpec(key="on", description="day", kind="date"),
        FieldSpec(key="sex", description="sex", kind="enum", choices=("male", "female")),
        FieldSpec(
            key="results",
            description="values",
            kind="table",
            columns=(
                FieldSpec(key="test", description="test", kind="text"),
                FieldSpec(key="value", description="value", kind="number"),
            ),
        ),
    ),
)
SCHEMAS = {"note": SCHEMA}


def form(seed: int, size: tuple[int, int] = (620, 877)) -> Image.Image:
    """A form of one layout, filled in at random."""
    draw_text = random.Random(seed)
    page = Image.new("L", size, 255)
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(13)
    for row in range(20):
        top = 40 + row * 40
        draw.text((40, top), f"Field number {row}:", fill=0, font=font)
        draw.rectangle((190, top - 6, 580, top + 24), outline=0)
        filled = "".join(draw_text.choice("abcdefghijklmnopqrstuvwxyz  ") for _ in range(draw_text.randint(4, 40)))
        draw.text((196, top), filled, fill=40, font=font)
    return page


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def as_document(index: int, content: bytes | None = None, **changes: Any) -> tuple[Document, list[bytes]]:
    content = encoded(form(index)) if content is None else content
    try:
        size = Image.open(io.BytesIO(content)).size
    except (OSError, Image.DecompressionBombError):
        size = (10, 10)
    document = Document(
        id=f"doc-{index}",
        document_type="note",
        schema="note",
        annotation={
            "name": f"Ada Number {index}",
            "on": f"2020-01-{index + 1:02}",
            "sex": ("male", "female")[index % 2],
            "results": [{"test": "Hb", "value": index + 10}],
        },
        image_keys=(hashlib.sha256(content).hexdigest(),),
        image_sizes=(size,),
        language="en" if index else "de",
        synthetic=index < 2,
    )
    return replace(document, **changes), [content]


def write(folder: Path, **splits: Sequence[tuple[Document, list[bytes]]]) -> Path:
    """Eight good documents for training, two to validate, and those given besides."""
    good = {"train": [as_document(index) for index in range(8)], "validation": [as_document(8), as_document(9)]}
    for name in {**good, **splits}:
        write_split(folder, name, [*good.get(name, []), *splits.get(name, [])])
    return folder


def found(folder: Path, limit: PromptLimit | None = None) -> list[tuple[str, str, str, str]]:
    report = check_dataset(folder, SCHEMAS, limit=limit)
    return [(item.kind, item.split, item.document_id, item.key) for item in report.findings]


def only(folder: Path, kind: str, **options: Any) -> Finding:
    (item,) = check_dataset(folder, SCHEMAS, **options).findings
    assert item.kind == kind
    return item


def test_clean_dataset_has_no_findings_and_its_balance_is_counted(tmp_path: Path) -> None:
    report = check_dataset(write(tmp_path), SCHEMAS)
    assert report.findings == []
    content = json.loads(json.dumps(report.to_json()))
    assert content == {
        "version": 1,
        "dataset": str(tmp_path),
        "num_documents": 10,
        "num_annotated": 10,
        "num_synthetic": 2,
        "num_pages": 10,
        "longest_prompt_tokens": None,
        "severities": {"error": 0, "warning": 0, "note": 0},
        "kinds": {},
        "findings": [],
        "documents": {
            "split": {"train": 8, "validation": 2},
            "document_type": {"note": 10},
            "specialty": {"": 10},
            "language": {"de": 1, "en": 9},
        },
        "schemas": {
            "note": {
                "num_documents": 10,
                "absent_share": 0.0,
                "keys": {
                    "name": 10,
                    "on": 10,
                    "sex": 10,
                    "results": 10,
                    "results.test": 10,
                    "results.value": 10,
                },
                "choices": {"sex": {"male": 5, "female": 5}},
            }
        },
    }


@pytest.mark.parametrize(
    ("key", "value", "kind", "place", "message"),
    [
        ("on", "31st of May", "unparsable_value", "on", "does not read as date"),
        ("sex", "unknown", "unparsable_value", "sex", "one of ['male', 'female']"),
        ("results", [{"value": 1}, {"value": "many"}], "unparsable_value", "results[1].value", "number"),
        ("results", "Hb 3", "misfit", "results", "expected a list of rows"),
        ("name", ["A", "B"], "misfit", "name", "expected one person_name"),
        ("nmae", "Ada", "unknown_key", "nmae", "did you mean 'name'"),
    ],
)
def test_annotations_that_do_not_fit(tmp_path: Path, key: str, value: Any, kind: str, place: str, message: str) -> None:
    document, images = as_document(10)
    changed = replace(document, annotation={**document.annotation, key: value})
    item = only(write(tmp_path, test=[(changed, images)]), kind)
    assert (item.severity, item.split, item.document_id, item.key) == ("error", "test", "doc-10", place)
    assert message in item.message


def test_documents_that_cannot_be_used(tmp_path: Path) -> None:
    other_schema = as_document(10, schema="letter")
    same_id = as_document(11, id="doc-3")
    without = as_document(12, annotation={}, annotated=False)
    candidate = as_document(13, annotation={}, annotated=False)
    folder = write(tmp_path, test=[other_schema, same_id, without], pool=[candidate])
    assert found(folder) == [
        ("duplicate_id", "test", "doc-3", ""),
        ("unknown_schema", "test", "doc-10", ""),
        ("not_annotated", "test", "doc-12", ""),
    ]


def test_keys_that_no_document_or_hardly_any_has(tmp_path: Path) -> None:
    documents = []
    for index in range(6):
        document, images = as_document(index)
        kept = {key: value for key, value in document.annotation.items() if key != "on" and (key != "sex" or not index)}
        kept["results"] = [{"test": "Hb", "value": ""}]
        documents.append((replace(document, annotation=kept), images))
    write_split(tmp_path, "train", documents)
    assert found(tmp_path) == [
        ("never_annotated", "", "", "note.on"),
        ("never_annotated", "", "", "note.results.value"),
        ("rare_key", "", "", "note.sex"),
    ]
    use = check_dataset(tmp_path, SCHEMAS).uses["note"]
    assert use.absent_share(SCHEMA) == pytest.approx(11 / 24)


def test_same_annotation_of_another_page_is_a_note(tmp_path: Path) -> None:
    copied = as_document(10, annotation=as_document(2)[0].annotation)
    item = only(write(tmp_path, test=[copied]), "same_annotation")
    assert (item.severity, item.document_id) == ("note", "doc-10")
    assert "document 'doc-2' in split 'train'" in item.message


def test_same_bytes_leak_across_splits_and_repeat_within(tmp_path: Path) -> None:
    page = encoded(form(3))
    folder = write(tmp_path, train=[as_document(10, page)], test=[as_document(11, page)], pool=[as_document(12, page)])
    report = check_dataset(folder, SCHEMAS)
    assert [(item.severity, item.kind, item.document_id) for item in report.findings] == [
        ("error", "leakage", "doc-11"),
        ("warning", "duplicate_image", "doc-10"),
        ("warning", "duplicate_image", "doc-12"),  # a candidate to annotate spoils no scores
    ]
    assert report.findings[0].message == (
        "page 1 is the same image as page 1 of document 'doc-3' in split 'train'; held-out scores would be a lie: "
        "remove one of them"
    )


CHANGES: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda page: encoded(page, "JPEG", quality=60),
    "smaller": lambda page: encoded(page.resize((558, 789), Image.Resampling.BICUBIC)),
    "turned": lambda page: encoded(page.rotate(1, Image.Resampling.BICUBIC, fillcolor=255)),
    "turned, frame grown": lambda page: encoded(page.rotate(-1, Image.Resampling.BICUBIC, expand=True, fillcolor=255)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_near_duplicates_are_found(tmp_path: Path, change: str) -> None:
    copy = CHANGES[change](form(5))
    folder = write(tmp_path, train=[as_document(10, copy)], test=[as_document(11, copy + b"\0")])
    report = check_dataset(folder, SCHEMAS)
    kinds = {(item.kind, item.document_id) for item in report.findings}
    assert kinds == {("leakage", "doc-11"), ("duplicate_image", "doc-10")}
    (leak,) = (item for item in report.findings if item.kind == "leakage")
    assert "page 1 looks like page 1 of document 'doc-" in leak.message and "of 1024 bits" in leak.message


def test_near_duplicates_by_bands_are_those_of_comparing_all_pairs() -> None:
    rng = np.random.default_rng(0)
    pages = PageHashes()
    base = rng.integers(0, 2, (300, 1024), dtype=np.uint8)
    for number, bits in enumerate(base):
        pages.add(np.packbits(bits)[None], number, 0)
    expected = {}
    for number in range(300):  # copies of which 0 to 149 bits differ
        copy = base[number].copy()
        copy[rng.choice(1024, number // 2, replace=False)] ^= 1
        page = pages.add(np.packbits(copy)[None], 300 + number, number % 2)
        if number // 2 <= MAX_DISTANCE:
            expected[page] = (number, number // 2)
    assert {item.page: (item.other, item.distance) for item in pages.duplicates()} == expected


def test_pages_of_one_document_are_no_duplicates_of_each_other() -> None:
    pages = PageHashes()
    hashes = page_hashes(form(1))
    pages.add(hashes, 0, 0)
    pages.add(hashes, 0, 0)
    assert pages.duplicates() == []
    pages.add(hashes, 1, 1)
    assert [(item.page, item.other, item.distance) for item in pages.duplicates()] == [(2, 0, 0)]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # from making them
@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"not an image", "unreadable_image", "page 1 is not a readable image"),
        (encoded(form(30))[:2000], "unreadable_image", "page 1 is not a readable image"),
        (encoded(form(30).resize((27, 200))), "extreme_image", "27 x 200 pixels, a side of less than 28"),
        (encoded(form(30).resize((30, 700))), "extreme_image", "more than 20 times the other"),
        (encoded(Image.new("L", (300, 300), 250)), "blank_page", "almost blank"),
        (encoded(Image.new("1", (12_000, 9_000))), "too_large", "12000 x 9000 = 108 million pixels"),
        (encoded(Image.new("1", (20_000, 10_000))), "unreadable_image", "decompression bomb"),
    ],
)
def test_pages_that_are_no_good(tmp_path: Path, content: bytes, kind: str, message: str) -> None:
    document, images = as_document(10, content)
    if kind == "unreadable_image":
        document = replace(document, image_sizes=())
    item = only(write(tmp_path, test=[(document, images)]), kind)
    assert (item.severity, item.split, item.document_id) == (KINDS[kind][0], "test", "doc-10")
    assert message in item.message


def test_pages_that_differ_from_what_the_dataset_says(tmp_path: Path) -> None:
    wrong_size = as_document(10, image_sizes=((5, 6),))
    damaged = as_document(11, image_keys=("0" * 64,))
    folder = write(tmp_path, test=[wrong_size, damaged, as_document(12)])
    assert found(folder) == [("unreadable_image", "test", "doc-11", ""), ("wrong_size", "test", "doc-10", "")]


def test_transparent_pages_are_seen_on_white(tmp_path: Path) -> None:
    page = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    assert only(write(tmp_path, test=[as_document(10, encoded(page))]), "blank_page").document_id == "doc-10"


def test_prompts_that_are_too_long_are_reported_with_numbers(tmp_path: Path) -> None:
    folder = write(tmp_path)
    template = load_prompt_template(PROMPT)
    longest = check_dataset(folder, SCHEMAS, limit=PromptLimit(policy=POLICY, template=template, max_tokens=10**6))
    assert longest.findings == [] and longest.max_tokens is not None
    first, second = as_document(10), as_document(11)
    keys = first[0].image_keys + second[0].image_keys
    two_pages = replace(first[0], image_keys=keys, image_sizes=((620, 877), (620, 877)))
    write_split(tmp_path, "test", [(two_pages, first[1] + second[1])])
    limit = PromptLimit(policy=POLICY, template=template, max_tokens=longest.max_tokens)
    item = only(folder, "prompt_too_long", limit=limit)
    assert (item.severity, item.split, item.document_id) == ("error", "test", "doc-10")
    assert "620 x 877, 620 x 877 pixels" in item.message and f"{longest.max_tokens} are allowed" in item.message


def test_options_of_prompts_are_checked(tmp_path: Path) -> None:
    assert prompt_limit(None, None, None) is None
    with pytest.raises(UserError, match="need --policy"):
        prompt_limit(None, None, 100)
    with pytest.raises(UserError, match="there is no folder"):
        prompt_limit(tmp_path / "gone", PROMPT, 100)
    with pytest.raises(UserError, match="--max-tokens: expected 1 or more, got 0"):
        prompt_limit(POLICY, PROMPT, 0)
    trained = tmp_path / "trained"
    trained.mkdir()
    with pytest.raises(UserError, match="add --prompt"):
        prompt_limit(trained, None, 100)
    rollout = {"max_model_len": 512, "max_response_tokens": 200}
    PolicyCard(run="run", step=1, reasoning=True, rollout=rollout).write(trained, PROMPT)
    limit = prompt_limit(trained, None, None)
    assert limit is not None and limit.max_tokens == 312 and limit.template == load_prompt_template(PROMPT)


def test_command_gives_exit_codes_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    (schemas / "note.yaml").write_text(
        "{name: note, document_type: note, description: d, keys: [{key: name, description: n, kind: text}]}"
    )
    data, report = tmp_path / "data", tmp_path / "new" / "report.json"
    documents = [as_document(index) for index in range(6)]
    named = [(replace(item, annotation={"name": item.annotation["name"]}), images) for item, images in documents]
    options: dict[str, Any] = {"schemas": schemas, "policy": None, "prompt": None, "max_tokens": None}
    write_split(data, "train", named)
    assert check_command(str(data), **options, json_path=None) == 0
    assert "nothing to find fault with" in capsys.readouterr().out
    write_split(data, "test", documents[:1])
    assert check_command(str(data), **options, json_path=report) == 3
    printed = capsys.readouterr().out
    assert "test doc-0 on: not a key of schema 'note'" in printed
    assert max(map(len, printed.splitlines())) <= 80 or str(data) in printed
    content = json.loads(report.read_text(encoding="utf-8"))
    assert content["severities"] == {"error": 5, "warning": 0, "note": 0}
    assert content["kinds"] == {"duplicate_id": 1, "unknown_key": 3, "leakage": 1}
    assert content["findings"][0] == {
        "severity": "error",
        "kind": "duplicate_id",
        "message": "split 'train' has a document of this id; rename one",
        "split": "test",
        "document_id": "doc-0",
        "key": "",
    }
    with pytest.raises(UserError, match="there is no dataset"):
        check_command(str(tmp_path / "none"), **options, json_path=None)
    (data / "train.parquet").write_bytes(b"broken")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        check_command(str(data), **options, json_path=None)


def test_shipped_slips_have_no_errors() -> None:
    report = check_dataset(SLIPS, load_schemas(ROOT / "conf/schemas"))
    assert report.balance.num_documents == 480
    assert [item for item in report.findings if item.severity == "error"] == []
    assert [item for item in report.findings if item.kind == "duplicate_image"] == []
