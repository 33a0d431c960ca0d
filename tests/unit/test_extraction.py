"""What `medvie extract` reads, votes on, checks and writes, as far as it needs no engine."""

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoTokenizer

from medvie_rl.data.ocr import OcrLine
from medvie_rl.data.pages import Page
from medvie_rl.data.reading_order import Box
from medvie_rl.data.store import open_split
from medvie_rl.errors import UserError
from medvie_rl.extraction.calibration import Evidence, Judged, curve, fit, read_calibration
from medvie_rl.extraction.extractor import Asking, Extraction, Extractor
from medvie_rl.extraction.inputs import InputDocument, find_files, read_file
from medvie_rl.extraction.lines import line
from medvie_rl.extraction.output import LineFile, Tables
from medvie_rl.extraction.page_check import PageText
from medvie_rl.extraction.places import in_words, nested, values_of
from medvie_rl.extraction.probabilities import value_probabilities, value_spans
from medvie_rl.extraction.run import Job, extract_files
from medvie_rl.extraction.shrink import shrunk
from medvie_rl.extraction.voting import agreeing_places, vote
from page_files import bar, drawing, encoded, pdf
from rewards.repair import parse_tolerant
from rewards.schema import FieldSpec, Schema, load_schema
from rollout.types import FinishReason, Rollout

ROOT = Path(__file__).parents[2]
POLICY = ROOT / "medvie_rl/nano/policy"
SCHEMA = Schema(
    name="letter",
    document_type="letter",
    description="a letter",
    fields=(
        FieldSpec(key="name", description="name", kind="person_name"),
        FieldSpec(key="on", description="day", kind="date"),
        FieldSpec(key="sex", description="sex", kind="enum", choices=("male", "female")),
        FieldSpec(key="allergies", description="allergies", kind="text", many=True),
        FieldSpec(
            key="drugs",
            description="drugs",
            kind="table",
            row_keys=("drug",),
            columns=(
                FieldSpec(key="drug", description="drug", kind="text"),
                FieldSpec(key="dose", description="dose", kind="quantity"),
            ),
        ),
    ),
)
ANSWER: dict[str, Any] = {
    "name": "Ana Ruiz",
    "allergies": ["nuts", None, "pollen"],
    "drugs": [{"drug": "Zinc", "dose": "5 mg"}, {"drug": "Iron", "dose": "75 mcg"}],
}


def drugs(*rows: tuple[str, str]) -> dict[str, Any]:
    return {"drugs": [{"drug": drug, "dose": dose} for drug, dose in rows]}


# --- places -----------------------------------------------------------------------------------------------------------


def test_values_have_their_places() -> None:
    places = [value.place for value in values_of(SCHEMA, ANSWER)]
    assert [in_words(place) for place in places] == [
        "name", "allergies[0]", "allergies[2]", "drugs[0].drug", "drugs[0].dose", "drugs[1].drug", "drugs[1].dose",
    ]  # fmt: skip
    assert nested({value.place: value.value for value in values_of(SCHEMA, ANSWER)}) == ANSWER
    assert list(values_of(SCHEMA, {"name": {"first": "Ana"}, "drugs": "Zinc", "allergies": "nuts"})) == []


# --- votes ------------------------------------------------------------------------------------------------------------


def test_the_answer_that_agrees_most_is_chosen_and_the_traces_vote_on_it() -> None:
    votes = vote(
        SCHEMA,
        [
            {"name": "Ana Ruis", **drugs(("Zinc", "5 mg"))},
            {"name": "Ana Ruiz", **drugs(("Zinc", "5 mg"), ("Iron", "75 mcg"))},
            {"name": "Ana Ruiz", **drugs(("Iron", "75 µg"), ("Zinc", "6 mg"))},  # in another order and spelling
            None,
        ],
    )
    assert votes is not None and votes.chosen == 1
    assert {in_words(place): share for place, share in votes.agreeing.items()} == {
        "name": 0.5, "drugs[0].drug": 0.75, "drugs[0].dose": 0.5, "drugs[1].drug": 0.5, "drugs[1].dose": 0.5,
    }  # fmt: skip
    assert votes.leaving_out == {"on": 0.75, "sex": 0.75, "allergies": 0.75}


def test_of_equals_the_first_is_chosen_and_of_nothing_none() -> None:
    votes = vote(SCHEMA, [{"name": "Ana"}, {"name": "Eva"}])
    assert votes is not None and votes.chosen == 0 and votes.agreeing == {("name",): 0.5}
    assert vote(SCHEMA, [None, None]) is None
    empty = vote(SCHEMA, [{}, {}, {"name": "Eva"}])
    assert empty is not None and empty.chosen == 0 and empty.leaving_out["name"] == pytest.approx(2 / 3)


def test_answers_of_another_shape_than_the_schema_can_vote() -> None:
    votes = vote(SCHEMA, [{"drugs": "Zinc", "name": ["Ana"]}, {"drugs": [1, {"drug": {"a": 1}}], "allergies": "nuts"}])
    assert votes is not None and votes.agreeing == {}


def test_values_are_right_where_the_truth_says_the_same() -> None:
    truth = {"name": "Ana Ruiz", "allergies": ["pollen"], **drugs(("Iron", "75 µg"), ("Zinc", "50 mg"))}
    right = {in_words(place) for place in agreeing_places(SCHEMA, ANSWER, truth)}
    assert right == {"name", "allergies[2]", "drugs[0].drug", "drugs[1].drug", "drugs[1].dose"}


# --- probabilities ----------------------------------------------------------------------------------------------------


def test_spans_are_those_of_the_values() -> None:
    text = (
        '<think>{"name": 1}</think> {"na\\"me" : "A \\"b\\" {,}", "rows": [{"a": 1.5, "b": [true, null]}, {"a": "x"}], '
        '"rows": 3, "z": "end"}'
    )
    spans = {place: text[start:end] for place, start, end in value_spans(text)}
    assert spans == {
        ('na"me',): '"A \\"b\\" {,}"', ("rows", 0, "a"): "1.5", ("rows", 0, "b", 0): "true",
        ("rows", 0, "b", 1): "null", ("rows", 1, "a"): '"x"', ("rows",): "3", ("z",): '"end"',
    }  # fmt: skip
    assert list(value_spans("no object")) == []


def test_a_value_is_as_probable_as_its_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    text = '<think>é</think>{"name": "Zoë", "dose": 5}'
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    logprobs = [-0.01 * (index + 1) for index in range(len(ids))]
    rollout = Rollout(
        text=text,
        token_ids=(*ids, tokenizer.eos_token_id),
        logprobs=(*logprobs, 0.0),
        finish_reason=FinishReason.STOP,
        weight_version=0,
    )
    found = value_probabilities(tokenizer, rollout)
    start, end = text.index('"Zoë"'), text.index('"Zoë"') + len('"Zoë"')
    expected, position = 0.0, 0
    for index in range(len(ids)):
        position_after = len(tokenizer.decode(ids[: index + 1]).rstrip("\ufffd"))
        if position_after > start and position < end:
            expected += logprobs[index]
        position = position_after
    assert found.keys() == {("name",), ("dose",)}
    assert found[("name",)] == pytest.approx(math.exp(expected), rel=0.05)  # but for the halves of a character
    assert 0 < found[("dose",)] < 1


# --- the page ---------------------------------------------------------------------------------------------------------


def page(*lines: str) -> PageText:
    return PageText([OcrLine(text=text, box=Box(0, 0, 1, 1), confidence=1.0) for text in lines])


@pytest.mark.parametrize(
    ("kind", "value", "is_there"),
    [
        ("text", "Amoxicillin", True),  # printed as Amoxicilin
        ("text", "Ibuprofen", False),
        ("person_name", "Ana Ruiz", True),
        ("date", "2026-11-03", True),  # printed as 03.11.2026
        ("date", "2026-11-04", False),
        ("quantity", "500 mg", True),
        ("quantity", "50 mg", False),
        ("number", 3, True),
        ("number", 31, False),
        ("code", "J45.0", True),
    ],
)
def test_values_are_looked_for_in_whatever_convention(kind: Any, value: Any, is_there: bool) -> None:
    text = page("Patient: Ana Ruiz", "03.11.2026 J45.0", "Amoxicilin 500 mg 3 times a day")
    assert text.has(FieldSpec(key="key", description="what", kind=kind), value) is is_there


def test_what_cannot_be_told_is_not_told() -> None:
    sex = FieldSpec(key="sex", description="sex", kind="enum", choices=("male", "female"))
    assert page("x").has(sex, "female") is None
    assert page().has(FieldSpec(key="name", description="name", kind="text"), "Ana") is None


# --- calibration ------------------------------------------------------------------------------------------------------


def judged(num_documents: int = 40) -> list[Judged]:
    """Values that are right as often as the traces agree; omissions that are always right."""
    made = []
    for document in range(num_documents):
        for index in range(10):
            agreeing = (index + 1) / 10
            is_right = (document * 7 + index * 3) % 10 < 10 * agreeing
            evidence = Evidence(agreeing=agreeing, probability=agreeing, on_page=index > 4)
            made.append(Judged(str(document), evidence, is_right))
        made.append(Judged(str(document), Evidence(agreeing=1.0, left_out=True), True))
    return made


def test_confidences_are_shares_of_what_is_right() -> None:
    calibration = fit(judged(), asked={"num_traces": 5}, max_error=0.05)
    shares = [
        calibration.confidence(Evidence(agreeing=share, probability=share, on_page=share > 0.5))
        for share in (0.1, 0.5, 1.0)
    ]
    assert shares == pytest.approx([0.1, 0.5, 1.0], abs=0.12)
    assert calibration.confidence(Evidence(agreeing=1.0, left_out=True)) > 0.95
    values = calibration.values
    assert (values.num_documents, values.num_values) == (40, 400) and values.expected_error < 0.08
    assert sum(number for _, _, number in values.bins) == 400
    assert values.coverage[-1] == pytest.approx((1.0, 1 - values.num_right / 400))
    assert calibration.confidence(Evidence(agreeing=1.0)) > calibration.confidence(Evidence(agreeing=0.2))


def test_the_threshold_keeps_the_share_of_wrong_values() -> None:
    found = [(str(index), index / 100, index >= 40) for index in range(100)]
    calibration_curve = curve(found)
    assert calibration_curve.num_right == 60
    data = judged()
    strict, loose = (fit(data, asked={}, max_error=error).review_below for error in (0.01, 0.3))
    assert loose < strict <= 1.0


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    calibration = fit(judged(), asked={"num_traces": 5, "temperature": 1.0}, max_error=0.02)
    assert read_calibration(tmp_path) is None
    calibration.write(tmp_path / "calibration.json")
    assert read_calibration(tmp_path) == calibration
    (tmp_path / "calibration.json").write_text('{"answered": []}', encoding="utf-8")
    with pytest.raises(UserError, match=r"calibration\.json: not a calibration .* medvie calibrate"):
        read_calibration(tmp_path)


def test_too_little_to_calibrate_on_is_refused() -> None:
    with pytest.raises(UserError, match="needs 10 annotated documents with answers, got 3"):
        fit(judged(3), asked={}, max_error=0.02)
    with pytest.raises(UserError, match="all 400 values on these documents are right"):
        fit([item._replace(is_right=True) for item in judged()], asked={}, max_error=0.02)


# --- lines ------------------------------------------------------------------------------------------------------------


def made_line(text: str, finish_reason: FinishReason = FinishReason.STOP, **evidence: Evidence) -> dict[str, Any]:
    truncated = finish_reason is FinishReason.LENGTH
    parsed = parse_tolerant(text, reasoning=False, truncated=truncated)
    document = InputDocument(id="a.1", image="scans/a.1.png", pages=())
    extraction = Extraction(
        document=document,
        status="repaired" if parsed.repairs else parsed.status.value,
        problem=f"{parsed.status.value}: {parsed.detail}" if parsed.repairs else parsed.detail,
        response="" if parsed.answer is not None else text,
        answer=parsed.answer,
        repairs=parsed.repairs,
        evidence={(key,): item for key, item in evidence.items()},
        left_out={"on": Evidence(agreeing=0.6, left_out=True)} if evidence else {},
    )
    made = line(extraction, SCHEMA, with_confidence=bool(evidence))
    shared = {"id": "a.1", "image": "scans/a.1.png", "document_type": "letter"}
    assert {name: made.pop(name) for name in shared} == shared
    return made


def test_a_clean_answer_has_no_problem() -> None:
    assert made_line('{"name": "Ana"}') == {"status": "ok", "fields": {"name": "Ana"}, "review": []}


def test_unsure_values_and_those_not_on_the_page_are_for_review() -> None:
    made = made_line(
        '{"name": "Ana", "sex": "male"}',
        name=Evidence(agreeing=1.0, on_page=False),
        sex=Evidence(agreeing=0.95),
    )
    assert made == {
        "status": "ok",
        "fields": {"name": "Ana", "sex": "male"},
        "confidence": {"name": 1.0, "sex": 0.95, "on": 0.6},
        "calibrated": False,
        "review": ["name", "on"],
        "not_on_page": ["name"],
    }


def test_a_repaired_answer_says_what_was_wrong_and_what_was_done() -> None:
    made = made_line('{"name": "Ana", "sex": "fe', FinishReason.LENGTH, name=Evidence(agreeing=1.0))
    assert made.pop("problem").startswith("truncated: Unterminated string")
    assert made == {
        "status": "repaired",
        "fields": {"name": "Ana"},
        "confidence": {"name": 1.0, "on": 0.6},
        "calibrated": False,
        "review": ["name", "on"],
        "repairs": ["open brackets closed", "incomplete value dropped: sex"],
    }


def test_an_answer_beyond_repair_is_shown_as_it_is() -> None:
    made = made_line("{'name': 'Ana'}")
    assert made.pop("problem").startswith("Expecting property name")
    assert made == {"status": "invalid_json", "response": "{'name': 'Ana'}"}


def test_what_is_left_out_of_an_answer_is_named() -> None:
    made = made_line('{"name": "Ana", "room": [{"dose": 1, "dose": 2}], "name": "Eva"}')
    assert made["fields"] == {"name": "Ana"}
    assert made["problem"] == (
        "keys that were not asked for were left out: ['room']; "
        "keys were given several times, of which the first is kept: ['name', 'dose']"
    )


# --- files in ---------------------------------------------------------------------------------------------------------


def test_folders_are_searched_and_files_keep_their_names(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "b/1.pdf", "notes.txt", "a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [file.id for file in find_files([tmp_path])] == ["a", "b/1", "b/2"]
    assert [file.id for file in find_files([tmp_path / "b/2.PNG"])] == ["2"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no documents there; expected files ending in"):
        find_files([tmp_path / "empty"])


def test_a_file_is_one_document_or_each_of_its_pages_is(tmp_path: Path) -> None:
    (tmp_path / "letter.pdf").write_bytes(pdf(bar(1), bar(20), bar(40)))
    (file,) = find_files([tmp_path])
    (whole,) = read_file(file, each_page=False, dpi=50)
    assert (whole.id, len(whole.pages)) == ("letter", 3)
    parts = list(read_file(file, each_page=True, dpi=50))
    assert [part.id for part in parts] == ["letter#page=1", "letter#page=2", "letter#page=3"]
    assert {len(part.pages) for part in parts} == {1}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("top_p=0.9", "--set: Key 'top_p' not in"),
        ("sampling.top_p=0.9", "--set: sampling.top_p says which tokens are sampled, but at sampling.temperature 0"),
        ("sampling.temperature=3", "--set: sampling.temperature must be in"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(setting: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        Extractor(Asking(policy=POLICY, settings=(setting,)))
    assert str(caught.value).startswith(message)


def test_documents_that_cannot_be_asked_get_their_own_lines(tmp_path: Path) -> None:
    test = open_split(ROOT / "medvie_rl/nano/slips", "test")
    document = test.documents[0]
    (tmp_path / "slip.png").write_bytes(next(iter(test.images(document).values())))
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "letter.pdf").write_bytes(pdf(bar(1), bar(20)))
    job = Job(
        asking=Asking(policy=POLICY, settings=("max_model_len=40", "max_response_tokens=32")),
        schema=load_schema(ROOT / "conf/schemas" / f"{document.schema}.yaml"),
        dpi=50,
    )
    files = find_files([tmp_path])
    (lines,) = extract_files(job, files, num_workers=0, address="", notice=print)
    broken, letter, slip = lines
    assert (broken["id"], broken["status"]) == ("broken", "unreadable")
    assert (letter["status"], letter["problem"][:14]) == ("too_many_pages", "it has 2 pages")
    assert (slip["image"], slip["status"]) == (str(tmp_path / "slip.png"), "too_long")
    assert "image included; max_model_len 40 minus max_response_tokens 32 leaves 8." in slip["problem"]


def test_pages_are_made_as_little_smaller_as_they_must_be() -> None:
    content = encoded(drawing(size=(1200, 800)))
    pages = [Page(content, "a", (1200, 800)), Page(content, "b", (1200, 800), "turned upright")]
    sizes: list[Any] = []

    def fits(asked: Any) -> bool:
        sizes.append(asked)
        return sum(width * height for width, height in asked) <= 500_000

    small = shrunk(pages, fits)
    assert small is not None
    (width, height), other = small[0].size, small[1].size
    assert (width, height) == other and 0.98 * 500_000 < 2 * width * height <= 500_000
    assert small[1].note == f"turned upright; made smaller to fit: 1200 x 800 to {width} x {height} pixels"
    with Image.open(io.BytesIO(small[0].content)) as image:
        assert image.size == (width, height)
    assert shrunk(pages, lambda asked: True) == tuple(pages)
    assert shrunk(pages, lambda asked: False) is None


# --- files out --------------------------------------------------------------------------------------------------------


def write_lines(out: LineFile, *images: str) -> None:
    with out:
        for image in images:
            out.write({"id": image, "image": image, "status": "ok"})


def images_in(path: Path) -> list[str]:
    return [json.loads(text)["image"] for text in path.read_text(encoding="utf-8").splitlines()]


def test_an_extraction_goes_on_behind_its_last_whole_line(tmp_path: Path) -> None:
    path, settings = tmp_path / "new/out.jsonl", {"schema": "a", "traces": 5}
    write_lines(LineFile(path, settings, resume=False, overwrite=False), "1.png", "2.png")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": "3.png", "im')  # killed while writing
    with pytest.raises(UserError, match=r"out\.jsonl exists: --resume goes on with it, --overwrite begins anew"):
        LineFile(path, settings, resume=False, overwrite=False)
    with pytest.raises(UserError, match=r"begun with other settings: traces \(was 5, now 9\)"):
        LineFile(path, settings | {"traces": 9}, resume=True, overwrite=False)
    again = LineFile(path, settings, resume=True, overwrite=False)
    assert again.done == {"1.png", "2.png"}
    write_lines(again, "3.png")
    assert images_in(path) == ["1.png", "2.png", "3.png"]
    write_lines(LineFile(path, settings, resume=False, overwrite=True), "4.png")
    assert images_in(path) == ["4.png"]


def test_a_file_that_is_no_extraction_is_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"out\.jsonl\.settings\.json: needed to go on"):
        LineFile(path, {}, resume=True, overwrite=False)
    (tmp_path / "out.jsonl.settings.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"out\.jsonl:1: not a line of an extraction"):
        LineFile(path, {}, resume=True, overwrite=False)


def test_tables_become_files_of_their_own(tmp_path: Path) -> None:
    made: Mapping[str, Any] = {
        "id": "1", "image": "1.png", "status": "ok", "fields": ANSWER, "review": ["drugs[1].dose", "name"],
        "confidence": {"name": 0.5, "drugs": [{"drug": 1.0, "dose": 0.25}]},
    }  # fmt: skip
    with Tables(tmp_path / "tables", SCHEMA) as tables:
        tables.write(made)
        tables.write({"id": "2", "image": "2.png", "status": "unreadable", "problem": 'it is "empty"'})
    documents = (tmp_path / "tables/documents.csv").read_text(encoding="utf-8").splitlines()
    assert documents == [
        "id,image,status,review,problem,name,name (confidence),on,on (confidence),sex,sex (confidence),"
        "allergies,allergies (confidence)",
        "1,1.png,ok,drugs[1].dose; name,,Ana Ruiz,0.5,,,,,nuts; ; pollen,",
        '2,2.png,unreadable,,"it is ""empty""",,,,,,,,',
    ]
    assert (tmp_path / "tables/drugs.csv").read_text(encoding="utf-8").splitlines() == [
        "id,row,drug,drug (confidence),dose,dose (confidence)",
        "1,0,Zinc,1.0,5 mg,0.25",
        "1,1,Iron,,75 mcg,",
    ]
    with pytest.raises(UserError):
        Tables(tmp_path / "tables", SCHEMA)
