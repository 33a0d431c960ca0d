"""Real annotations: the truth earns everything, and each corruption moves precision and recall as documented."""

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rewards.reward import RewardConfig, score_response
from rewards.schema import FieldSpec, Schema, load_schema
from rewards.types import Score

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "real_documents"
SHIPPED, OURS = ROOT / "conf/schemas", ROOT / "tests/schemas"
SCHEMAS = {
    "invoice2data_invoices": OURS / "invoice.yaml",
    "medicine_boxes_en": SHIPPED / "medicine_box.yaml",
    "mtsamples_rendered": OURS / "transcribed_report.yaml",
    "openi_radiology_rendered": SHIPPED / "radiology_report.yaml",
    "sroie_receipts": OURS / "receipt.yaml",
    "vaipe_prescriptions_vi": SHIPPED / "prescription_vi.yaml",
    "wildreceipt": OURS / "receipt_photo.yaml",
}
LISTS = (
    "store_name",
    "store_address",
    "date",
    "subtotal",
    "tax",
    "total",
)  # of the receipt photos: one value or several

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real documents are not here ({REAL})")


@dataclass(frozen=True)
class Annotated:
    name: str
    schema: Schema
    truth: dict[str, Any]


def _documents() -> Iterator[Annotated]:
    for folder, path in SCHEMAS.items():
        schema = load_schema(path)
        for number, line in enumerate((REAL / folder / "annotations.jsonl").read_text(encoding="utf-8").splitlines()):
            entry = json.loads(line)
            truth = {key: value for key, value in entry["fields"].items() if key in schema.keys}
            if folder == "wildreceipt":
                truth |= {key: [truth[key]] for key in LISTS if isinstance(truth.get(key), str)}
            yield Annotated(f"{folder}-{number}", schema, truth)
            if "derived_rows" in entry:  # the same prescription, a row for each drug
                rows = {"date": truth["date"], "medicines": entry["derived_rows"]}
                yield Annotated(f"{folder}-{number}-rows", load_schema(SHIPPED / "prescription.yaml"), rows)


DOCUMENTS = list(_documents()) if REAL.is_dir() else []


def _score(document: Annotated, answer: dict[str, Any]) -> Score:
    response = f"<think>as printed</think>\n{json.dumps(answer, ensure_ascii=False)}"
    return score_response(
        document.schema, document.schema.keys, document.truth, response,
        reasoning=True, truncated=False, config=RewardConfig(),
    )  # fmt: skip


def test_all_documents_are_here() -> None:
    assert len(DOCUMENTS) == 46 + 12


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_the_annotation_fits_its_schema_and_earns_everything(document: Annotated) -> None:
    assert document.schema.validate_annotation(document.truth) == []
    score = _score(document, document.truth)
    assert (score.reward, score.precision, score.recall, score.f1) == (1.0, 1.0, 1.0, 1.0)
    assert score.counts.correct == score.counts.true == score.counts.predicted > 0


# --- corruptions: None where one does not apply -----------------------------------------------------------------------

Corruption = Callable[[Annotated, random.Random], dict[str, Any] | None]


@dataclass(frozen=True)
class _Place:
    """Where a scalar stands in an answer."""

    spec: FieldSpec
    container: Any
    index: Any

    @property
    def text(self) -> str:
        return str(self.container[self.index])

    def put(self, text: str) -> None:
        self.container[self.index] = text


def _places(schema: Schema, answer: dict[str, Any]) -> Iterator[_Place]:
    for key, value in answer.items():
        spec = schema.field(key)
        if spec.kind == "table":
            for row in value:
                for column in spec.columns:
                    yield from _scalars(column, row, column.key)
        else:
            yield from _scalars(spec, answer, key)


def _scalars(spec: FieldSpec, container: dict[str, Any], key: str) -> Iterator[_Place]:
    value = container.get(key)
    if isinstance(value, list):
        yield from (_Place(spec, value, index) for index in range(len(value)))
    elif value is not None:
        yield _Place(spec, container, key)


def _drop_key(document: Annotated, rng: random.Random) -> dict[str, Any]:
    dropped = rng.choice([key for key, value in document.truth.items() if value])
    return {key: value for key, value in document.truth.items() if key != dropped}


def _change_digit(document: Annotated, rng: random.Random) -> dict[str, Any] | None:
    answer = copy.deepcopy(document.truth)
    places = [place for place in _places(document.schema, answer) if re.search("[1-9]", place.text)]
    if not places:
        return None
    place = rng.choice(places)
    found = rng.choice(list(re.finditer("[1-9]", place.text)))
    other = rng.choice([digit for digit in "123456789" if digit != found[0]])
    place.put(place.text[: found.start()] + other + place.text[found.end() :])
    return answer


def _swap_rows(document: Annotated, rng: random.Random) -> dict[str, Any] | None:
    answer = copy.deepcopy(document.truth)
    for spec in document.schema.fields:
        rows = answer.get(spec.key) or []
        for column in (column.key for column in spec.columns if column.key not in spec.row_keys):
            pairs = [
                (first, second)
                for first in rows
                for second in rows
                if first.get(column) and second.get(column) and _differ(first[column], second[column])
            ]
            if pairs:
                first, second = rng.choice(pairs)
                first[column], second[column] = second[column], first[column]
                return answer
    return None


def _differ(first: Any, second: Any) -> bool:
    return str(first).lower() != str(second).lower()


def _invent(document: Annotated, rng: random.Random) -> dict[str, Any]:
    answer = copy.deepcopy(document.truth)
    for spec in document.schema.fields:
        if spec.kind == "table" and answer.get(spec.key):
            answer[spec.key].append({**rng.choice(answer[spec.key]), spec.row_keys[0]: "something invented"})
            return answer
        if spec.many and answer.get(spec.key):
            answer[spec.key].append("77 inventions")
            return answer
    return {**answer, "invented": "something"}


def _change_unit(document: Annotated, rng: random.Random) -> dict[str, Any] | None:
    answer = copy.deepcopy(document.truth)
    places = [
        place
        for place in _places(document.schema, answer)
        if place.spec.kind == "quantity" and re.search(r"\d\s*[^\W\d]+$", place.text)
    ]
    if not places:
        return None
    place = rng.choice(places)
    place.put(re.sub(r"[^\W\d]+$", lambda unit: "sachets" if unit[0].lower() == "kg" else "kg", place.text))
    return answer


def _recase(document: Annotated, rng: random.Random) -> dict[str, Any]:
    answer = copy.deepcopy(document.truth)
    for place in _places(document.schema, answer):
        place.put(rng.choice([str.upper, str.lower, str.swapcase])(place.text))
    return answer


def _reverse(document: Annotated, rng: random.Random) -> dict[str, Any]:
    return {key: value[::-1] if isinstance(value, list) else value for key, value in document.truth.items()}


# What happens to precision and to recall, and on how many of the documents the corruption applies.
CORRUPTIONS: dict[str, tuple[Corruption, str, str, int]] = {
    "drop a key": (_drop_key, "same", "lower", 58),
    "change a digit": (_change_digit, "lower", "lower", 54),
    "swap two rows' values": (_swap_rows, "lower", "lower", 8),
    "invent a row": (_invent, "lower", "same", 58),
    "change a unit": (_change_unit, "lower", "lower", 31),
    "re-case": (_recase, "same", "same", 58),
    "reverse": (_reverse, "same", "same", 58),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_move_precision_and_recall_as_documented(name: str) -> None:
    corrupt, precision, recall, expected = CORRUPTIONS[name]
    num_applied = 0
    for document in DOCUMENTS:
        for seed in range(5):
            answer = corrupt(document, random.Random(f"{document.name} {seed}"))
            if answer is None:
                break
            score = _score(document, answer)
            where = f"{name}, {document.name}, seed {seed}: {answer}"
            for value, weighted, direction in (
                (score.precision, score.weighted_precision, precision),
                (score.recall, score.weighted_recall, recall),
            ):
                assert (value < 1.0 and weighted < 1.0) if direction == "lower" else value == weighted == 1.0, where
            assert (score.reward == 1.0) == (precision == recall == "same"), where
        else:
            num_applied += 1
    assert num_applied == expected


def test_swapped_rows_are_called_misassociated() -> None:
    for document in DOCUMENTS:
        answer = _swap_rows(document, random.Random(document.name))
        if answer is not None:
            counts = _score(document, answer).counts
            assert counts.misassociated == counts.misassociated_true > 0, document.name
