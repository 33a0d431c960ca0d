"""What synthetic slips say: the keys of each kind in their layouts, labels, and values as printed and as annotated."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from medvie_rl.data.vocabulary import FREQUENCIES, LATER, NEVER, SEEN, TESTS, WORD_LISTS, pseudo_word

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NEVER_SEEN_SHARE = 0.3  # of the closed-list values in the test split
_PSEUDO_SHARE = 0.5  # of the closed-list values in the pre-training split

# Each layout lists the lines from top to bottom; keys that share a line are printed one after the other.
LAYOUTS: dict[str, tuple[tuple[tuple[str, ...], ...], ...]] = {
    "prescription": (
        (("patient",), ("age", "sex"), ("drug", "dose"), ("freq",), ("date",)),
        (("date",), ("patient",), ("sex", "age"), ("drug",), ("dose",), ("freq",)),
        (("drug", "dose"), ("freq",), ("patient",), ("age",), ("sex",), ("date",)),
    ),
    "laboratory": (
        (("date",), ("patient",), ("born",), ("sex",), ("test", "result")),
        (("patient",), ("sex",), ("born",), ("test",), ("result",), ("date",)),
        (("test",), ("result",), ("patient",), ("born",), ("sex", "date")),
    ),
    "visit": (
        (("patient",), ("age", "sex"), ("diagnosis",), ("code",), ("doctor",), ("date",)),
        (("date",), ("doctor",), ("patient",), ("sex", "age"), ("diagnosis", "code")),
        (("doctor",), ("date",), ("diagnosis",), ("code",), ("patient",), ("age", "sex")),
    ),
    "vaccination": (
        (("patient",), ("born",), ("vaccine",), ("lot",), ("dose",), ("date",)),
        (("vaccine", "dose"), ("lot",), ("date",), ("patient",), ("born",)),
        (("date",), ("vaccine",), ("dose", "lot"), ("born",), ("patient",)),
    ),
    "radiology": (
        (("patient",), ("born",), ("exam", "region"), ("finding",), ("doctor",), ("date",)),
        (("date",), ("exam",), ("region",), ("finding",), ("patient",), ("born",)),
        (("exam", "region"), ("date",), ("patient",), ("born",), ("finding",), ("doctor",)),
    ),
    "pathology": (
        (("patient",), ("born",), ("specimen", "size"), ("finding",), ("grade",), ("date",)),
        (("specimen",), ("finding",), ("grade", "size"), ("patient",), ("born",), ("date",)),
        (("date",), ("patient",), ("born",), ("specimen",), ("size",), ("finding", "grade")),
    ),
    "dermatology": (
        (("patient",), ("age", "sex"), ("site",), ("lesion", "size"), ("date",)),
        (("date",), ("lesion",), ("site",), ("size",), ("patient",), ("sex", "age")),
        (("site",), ("lesion",), ("size",), ("date",), ("patient",), ("age", "sex")),
    ),
    "receipt": (
        (("shop",), ("date",), ("item",), ("price",), ("total",), ("paid",)),
        (("date",), ("shop",), ("item", "price"), ("total",), ("paid",)),
        (("shop",), ("item",), ("price",), ("paid",), ("total",), ("date",)),
    ),
    "invoice": (
        (("number",), ("date",), ("customer",), ("item",), ("total",), ("due",)),
        (("customer",), ("number",), ("date",), ("item", "total"), ("due",)),
        (("date",), ("number",), ("item",), ("total",), ("due",), ("customer",)),
    ),
}
# Labels by style: full, short, and none where the value speaks for itself.
LABELS: dict[str, tuple[str, str, str]] = {
    "patient": ("Patient: ", "Pt ", ""),
    "age": ("Age: ", "age ", ""),
    "sex": ("Sex: ", "sex ", ""),
    "drug": ("Drug: ", "Rx ", ""),
    "dose": ("Dose: ", "dose ", ""),
    "freq": ("Take: ", "", ""),
    "date": ("Date: ", "on ", ""),
    "born": ("Born: ", "DOB ", "born "),
    "test": ("Test: ", "test ", ""),
    "result": ("Result: ", "= ", ""),
    "diagnosis": ("Diagnosis: ", "Dx ", ""),
    "code": ("Code: ", "ICD ", "ICD "),
    "doctor": ("Doctor: ", "Dr ", "Dr "),
    "vaccine": ("Vaccine: ", "vac ", ""),
    "lot": ("Lot: ", "lot ", "LOT "),
    "exam": ("Exam: ", "exam ", ""),
    "region": ("Region: ", "of ", ""),
    "finding": ("Finding: ", "find ", ""),
    "specimen": ("Specimen: ", "spec ", ""),
    "size": ("Size: ", "size ", ""),
    "grade": ("Grade: ", "grade ", ""),
    "site": ("Site: ", "site ", ""),
    "lesion": ("Lesion: ", "les ", ""),
    "shop": ("Shop: ", "at ", ""),
    "item": ("Item: ", "item ", ""),
    "price": ("Price: ", "price ", "price "),
    "total": ("Total: ", "total ", "total "),
    "paid": ("Paid: ", "paid ", ""),
    "number": ("No: ", "no ", "no "),
    "customer": ("For: ", "to ", "to "),
    "due": ("Due: ", "due ", "due "),
}
_STRENGTHS = (1, 2, 4, 5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80, 100, 120, 125, 150, 200, 250, 300, 400, 500, 600, 800)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one slip prints things; drawn once per slip."""

    date: int
    label: int
    name: int
    age: str
    short_sex: bool


def draw_style(rng: random.Random) -> Style:
    return Style(
        date=rng.randrange(4),
        label=rng.choice((0, 0, 1, 2)),
        name=rng.choice((0, 0, 1, 2)),
        age=rng.choice(("", " y", " yrs")),
        short_sex=rng.random() < 0.5,
    )


def label_of(key: str, style: Style) -> str:
    label = LABELS[key][style.label]
    return "age " if key == "age" and not label and not style.age else label


def _word(name: str, split: str, rng: random.Random) -> str:
    if split == "pretrain" and rng.random() < _PSEUDO_SHARE:
        return pseudo_word(rng)
    parts = WORD_LISTS[name].parts
    if split == "test" and rng.random() < _NEVER_SEEN_SHARE:
        return rng.choice(parts[NEVER])
    return rng.choice(parts[SEEN] if split == "pretrain" else parts[SEEN] + parts[LATER])


def _text(name: str) -> Callable[[str, Style, random.Random], tuple[str, str]]:
    def draw(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
        word = _word(name, split, rng)
        return word, word

    return draw


def _name(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    first, last = _word("first", split, rng), _word("last", split, rng)
    full = f"{first} {last}"
    return (full, f"{last.upper()}, {first}", f"{last}, {first}")[style.name], full


def _day(first_year: int, last_year: int) -> Callable[[str, Style, random.Random], tuple[str, str]]:
    def draw(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
        year, month, day = rng.randint(first_year, last_year), rng.randint(1, 12), rng.randint(1, 28)
        iso = f"{year}-{month:02d}-{day:02d}"
        words = f"{day:02d} {MONTHS[month - 1]} {year}"
        return (f"{day:02d}/{month:02d}/{year}", words, iso, f"{day:02d}.{month:02d}.{year}")[style.date], iso

    return draw


def _age(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    age = str(rng.randint(2, 97))
    return age + style.age, age


def _sex(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    sex = rng.choice(("male", "female"))
    return (sex[0].upper() if style.short_sex else sex), sex


def _dose(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    number = str(rng.choice(_STRENGTHS)) if rng.random() < 0.7 else f"{rng.randint(0, 9)}.{rng.randint(1, 9)}"
    dose = f"{number} {rng.choice(('mg', 'mg', 'g', 'mL', 'mcg'))}"
    return dose, dose


def _result(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    digits = rng.randint(0, 2)
    number = f"{rng.uniform(1, 200 if digits < 2 else 20):.{digits}f}"
    result = f"{number} {rng.choice(sorted(set(TESTS.values())))}"
    return result, result


def _freq(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    freq = rng.choice(FREQUENCIES)
    return freq, freq


def _code(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    code = f"{rng.choice('ABCDEFGHIJKLMNOPRSTZ')}{rng.randint(0, 99):02d}"
    code += f".{rng.randint(0, 9)}" if rng.random() < 0.5 else ""
    return code, code


def _lot(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    lot = "".join(rng.choices("ABCDEFGHKLMNPRSTVXZ", k=rng.randint(1, 2))) + str(rng.randint(100, 9999))
    return lot, lot


def _one_of(words: str) -> Callable[[str, Style, random.Random], tuple[str, str]]:
    """A drawer of words that are the same in all splits."""
    choices = words.split()

    def draw(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
        word = rng.choice(choices).replace("_", " ")
        return word, word

    return draw


def _size(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    size = f"{rng.randint(2, 60)} mm" if rng.random() < 0.7 else f"{rng.randint(1, 9)}.{rng.randint(1, 9)} cm"
    return size, size


def _money(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    amount = f"{rng.randint(1, 180)}.{rng.randint(0, 99):02d}"
    return amount, amount


def _number(split: str, style: Style, rng: random.Random) -> tuple[str, str]:
    number = f"{rng.choice('RAB')}{rng.randint(1000, 99999)}"
    return number, number


DRAWERS: dict[str, Callable[[str, Style, random.Random], tuple[str, str]]] = {
    "patient": _name,
    "doctor": _name,
    "age": _age,
    "sex": _sex,
    "drug": _text("drug"),
    "diagnosis": _text("diagnosis"),
    "vaccine": _text("vaccine"),
    "test": _text("test"),
    "dose": _dose,
    "result": _result,
    "freq": _freq,
    "code": _code,
    "lot": _lot,
    "date": _day(2019, 2025),
    "born": _day(1930, 2018),
    # Of the slips that the embedded policy was not made for:
    "exam": _one_of("X-ray CT MRI Ultrasound Angiogram Mammogram"),
    "region": _one_of("Chest Knee Skull Spine Pelvis Hand Ankle Abdomen Shoulder"),
    "finding": _one_of("Normal Fracture Effusion Nodule Mass Cyst Adenoma Fibrosis Polyp Edema Stenosis Calculus"),
    "specimen": _one_of("Skin Colon Breast Stomach Liver Lung Thyroid Kidney Cervix Prostate"),
    "size": _size,
    "grade": _one_of("G1 G2 G3 G4"),
    "site": _one_of("Left_arm Right_arm Back Scalp Left_leg Right_leg Neck Cheek Trunk"),
    "lesion": _one_of("Nevus Plaque Papule Macule Keratosis Melanoma Wart Ulcer Blister Nodule"),
    "shop": _one_of("Albo Kiosk Vitalis Bakery Corner Medipoint Salus Market Optica Flora"),
    "item": _one_of("Bread Soap Bandage Coffee Thermometer Syrup Tissues Cream Batteries Gloves Tea Mask"),
    "price": _money,
    "total": _money,
    "paid": _one_of("cash card voucher"),
    "number": _number,
    "customer": _name,
    "due": _day(2019, 2025),
}
