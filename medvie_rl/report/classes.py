"""How a report marks and calls the classes of values: never by colour alone. docs/reward.md has their rules."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeClass:
    """A sign, a name and what it means."""

    sign: str
    name: str
    meaning: str


CLASSES: Mapping[str, OutcomeClass] = {
    "correct": OutcomeClass(sign="✓", name="correct", meaning="equal to the true value"),
    "close": OutcomeClass(sign="≈", name="nearly right", meaning="free text in nearly the true words"),
    "convention": OutcomeClass(sign="~", name="wrong format", meaning="the right information in another form"),
    "misread": OutcomeClass(sign="✗", name="wrong", meaning="another value than the true one"),
    "misassociated": OutcomeClass(
        sign="⇄", name="mis-associated", meaning="a true value of the page under another key or in another row"
    ),
    "hallucinated": OutcomeClass(sign="+", name="hallucinated", meaning="a value for what is not on the page"),
    "duplicate": OutcomeClass(sign="2", name="given twice", meaning="a key, item or row once more"),
    "omitted": OutcomeClass(sign="−", name="omitted", meaning="on the page, and not answered"),
}
