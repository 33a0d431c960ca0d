"""Free text: slips earn nearly everything, another word costs the whole of it, what turns the meaning earns nothing."""

import pytest

from rewards.compare import text_credit
from rewards.schema import FieldSpec
from rewards.similarity import MAX_CHARACTERS, text_similarity
from rewards.values import fold_text

AROUND = "in the emergency department we found on this page that there was {} and then went on to the ward"


def similarity(text: str, true: str, floor: float = 0.8) -> float:
    return text_similarity(fold_text(text), fold_text(true), floor=floor)


@pytest.mark.parametrize(
    ("text", "true", "expected"),
    [
        ("The lungs are clear.", "the lungs are clear", 1.0),
        ("The lungs are cleer", "The lungs are clear", 15 / 16),  # 16 letters, one of them wrong
        ("findings noted", "findings are noted", 13 / 16),
        ("cardiomegalie", "cardiomegaly", 1 - 2 / 13),  # a long word may have two
        ("38.0 degrees", "38 degrees", 1.0),
        ("5,4 mmol", "5.4 mmol", 1.0),
        ("well - defined margin", "well-defined margin", 1.0),
        ("", "", 0.0),  # equal texts are no matter of similarity
        ("a" * (MAX_CHARACTERS + 1), "a" * MAX_CHARACTERS, 0.0),
    ],
)
def test_by_hand(text: str, true: str, expected: float) -> None:
    assert similarity(text, true) == pytest.approx(expected)


def test_the_floor_is_inclusive() -> None:
    text, true = "abcde fghij", "abcde fghiz"
    assert similarity("abcde uvwxy", "abcde fghij", floor=0.5) == pytest.approx(0.5)
    assert similarity("abcde uvwxy", "abcde fghij", floor=0.51) == 0.0
    assert similarity(text, true, floor=0.9) == pytest.approx(0.9)


TURNED = """
5 mg/kg | 5 mg/g
5 micrograms | 5 milligrams
10 units of insulin | 10 drops of insulin
5 mm2 | 5 cm2
5-mm nodule | 5-cm nodule
37.5 °C | 37.5 °F
5 days later | 5 years later
5-10 mg | 5 10 mg
5 mg | 50 mg
<5 mg | >5 mg
HBsAg (+) | HBsAg (-)
Rh+ | Rh-
fracture of T4 | fracture of L4
grade III | grade II
Grade I | Grade V
no fracture. Effusion | fracture. No effusion
isn't dilated | is dilated
left hip normal, right hip broken | right hip normal, left hip broken
linksseitig | rechtsseitig
typical nevus | atypical nevus
stable | unstable
hypertension | hypotension
increased | decreased
10 mg daily | 10 mg weekly
once | twice
two nodules | six nodules
ruled out | ruled in
w/o chest pain | w/ chest pain
RLL | LLL
nontender | tender
unauffällig | auffällig
trước ăn | sau ăn
饭前服 | 饭后服
阳性 | 阴性
左肺 | 右肺
"""


@pytest.mark.parametrize("pair", TURNED.strip().splitlines())
def test_what_turns_the_meaning_earns_nothing_however_long_the_text(pair: str) -> None:
    one, other = (side.strip() for side in pair.split("|"))
    for text, true in ((one, other), (other, one)):
        assert similarity(text, true) == 0.0
        assert similarity(AROUND.format(text), AROUND.format(true)) == 0.0
    assert similarity(AROUND.format(one), AROUND.format(one)) == 1.0


def test_another_word_costs_the_whole_word() -> None:
    true = AROUND.format("vincristine")
    letters = sum(map(len, true.split()))
    assert similarity(AROUND.format("vinblastine"), true) == pytest.approx(1 - 11 / letters)
    assert similarity(AROUND.format("vincristin"), true) == pytest.approx(1 - 1 / letters)


def test_credit_is_for_free_text_only() -> None:
    def credit(kind: str, **options: object) -> float:
        spec = FieldSpec(key="k", description="k", kind=kind, **options)  # type: ignore[arg-type]
        return text_credit(spec, "The lungs are cleer", "The lungs are clear")

    assert credit("free_text") == pytest.approx(15 / 16)
    assert credit("free_text", min_similarity=0.95) == credit("free_text", ignore_blanks=True) == credit("text") == 0.0
    spec = FieldSpec(key="k", description="k", kind="free_text")
    assert text_credit(spec, "the lungs", "The  Lungs") == 1.0
    assert text_credit(spec, "x" * (MAX_CHARACTERS + 1), "x") == 0.0
