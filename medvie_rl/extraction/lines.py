"""What is written of a document: one JSON object.

`id` (the file's name without its ending, below a named folder with the folders in between), `image` (the file),
`document_type`, and `status`:

- `ok`: `fields` is what the policy answered, read strictly;
- `repaired`: the response was no clean JSON; `repairs` names what was done to it (the closed list of `rewards.repair`),
  `problem` says what was wrong with it, and `fields` is what was left. Someone should look;
- `unreadable`: the file could not be decoded;
- `too_long`, `too_many_pages`: it does not fit the engine's settings, and was not asked;
- any other status of `rewards.types.AnswerStatus`: no answer could be taken out of `response`.

Beside `fields`:

- `confidence`: in the shape of the fields, a number for each value; a key that was left out has the confidence that it
  is not on the document. With `calibrated` true it is the probability of being right, as measured on annotated
  documents (see `calibration.py`); else the share of traces that agree, which says less. Only with
  several traces;
- `not_on_page`: values that were not found in the text that OCR finds on the pages;
- `review`: what someone should look at: confidence below the threshold, not on the page, or all values of an answer
  that had to be repaired. Values as `drugs[0].dose`;
- `notes`: what was done to the pages, such as making them smaller where they would not have fitted;
- `problem`, for an answer too: keys that were not asked for, or that were given several times.
"""

from collections.abc import Mapping
from typing import Any

from medvie_rl.extraction.calibration import Calibration, Evidence
from medvie_rl.extraction.extractor import Extraction
from medvie_rl.extraction.places import Place, in_words, nested
from rewards.parsing import JsonObject
from rewards.schema import Schema
from rewards.types import AnswerStatus

UNREADABLE = "unreadable"
DEFAULT_REVIEW_BELOW = 0.9


def unreadable_line(document_id: str, image: str, problem: str) -> dict[str, Any]:
    """Of a file that gives no pages."""
    return {"id": document_id, "image": image, "status": UNREADABLE, "problem": problem}


def line(
    extraction: Extraction,
    schema: Schema,
    *,
    calibration: Calibration | None = None,
    review_below: float | None = None,
    with_confidence: bool = True,
) -> dict[str, Any]:
    """Of a document that the policy was asked about. The threshold is by default that of the calibration."""
    document, answer = extraction.document, extraction.answer
    identity = {"id": document.id, "image": document.image, "document_type": schema.document_type}
    if answer is None:
        response = {"response": extraction.response} if extraction.response else {}
        return identity | {"status": extraction.status, "problem": extraction.problem} | response
    made: dict[str, Any] = identity | {"status": extraction.status}
    made["fields"] = {key: value for key, value in answer.items() if key in schema.keys}
    found = dict(extraction.evidence) | {(key,): evidence for key, evidence in extraction.left_out.items()}
    sure: dict[Place, float] = {}
    if with_confidence:
        sure = {place: round(_confidence(evidence, calibration), 4) for place, evidence in found.items()}
        made["confidence"], made["calibrated"] = nested(sure), calibration is not None
    not_on_page = [place for place, evidence in found.items() if evidence.on_page is False]
    threshold = review_below if review_below is not None else _threshold(calibration)
    unsure = {place for place, confidence in sure.items() if confidence < threshold} | set(not_on_page)
    made["review"] = [in_words(place) for place in found if place in unsure or extraction.repairs]
    if not_on_page:
        made["not_on_page"] = [in_words(place) for place in not_on_page]
    if extraction.notes:
        made["notes"] = list(extraction.notes)
    if extraction.repairs:
        made["repairs"] = list(extraction.repairs)
    problems = [problem for problem in (extraction.problem, *_idle_keys(answer, schema)) if problem]
    return made | ({"problem": "; ".join(problems)} if problems else {})


def is_clean(made: Mapping[str, Any]) -> bool:
    """Whether a line needs nobody to look at how it was read."""
    return bool(made["status"] == AnswerStatus.OK.value)


def _confidence(evidence: Evidence, calibration: Calibration | None) -> float:
    return calibration.confidence(evidence) if calibration else evidence.agreeing


def _threshold(calibration: Calibration | None) -> float:
    return calibration.review_below if calibration else DEFAULT_REVIEW_BELOW


def _idle_keys(answer: JsonObject, schema: Schema) -> list[str]:
    problems = []
    if unknown := [key for key in answer if key not in schema.keys]:
        problems.append(f"keys that were not asked for were left out: {unknown}")
    if repeated := _repeated_keys(answer):
        problems.append(f"keys were given several times, of which the first is kept: {repeated}")
    return problems


def _repeated_keys(value: Any) -> list[str]:
    """The keys that an object anywhere inside `value` has more than once, each named once."""
    if isinstance(value, JsonObject):
        own, inner = [key for key, _ in value.repeated], list(value.values())
    else:
        own, inner = [], value if isinstance(value, list) else []
    return list(dict.fromkeys([*own, *(key for item in inner for key in _repeated_keys(item))]))
