"""Choosing drugs for diagnoses, and saying in words how to take them."""

import random
from dataclasses import dataclass

from medvie_rl.data.synth.words_diagnoses import DIAGNOSES, Diagnosis
from medvie_rl.data.synth.words_drugs import DRUGS, Drug

_COUNTED = {  # forms that are counted, with the singular and plural of a piece
    "en": {
        "tab": ("tablet", "tablets"),
        "cap": ("capsule", "capsules"),
        "sachet": ("sachet", "sachets"),
        "inj": ("syringe", "syringes"),
    },
    "de": {
        "tab": ("Tablette", "Tabletten"),
        "cap": ("Kapsel", "Kapseln"),
        "sachet": ("Beutel", "Beutel"),
        "inj": ("Fertigspritze", "Fertigspritzen"),
    },
    "vi": {"tab": ("viên", "viên"), "cap": ("viên", "viên"), "sachet": ("gói", "gói"), "inj": ("ống", "ống")},
}
_PACKS = {  # forms that come in packs, with what a pack is called
    "en": {
        "cream": "tube",
        "inh": "inhaler",
        "spray": "spray",
        "nasal": "nasal spray",
        "eye": "bottle",
        "syrup": "bottle",
    },
    "de": {
        "cream": "Tube",
        "inh": "Inhalator",
        "spray": "Spray",
        "nasal": "Nasenspray",
        "eye": "Flasche",
        "syrup": "Flasche",
    },
    "vi": {"cream": "tuýp", "inh": "bình xịt", "spray": "chai", "nasal": "chai", "eye": "lọ", "syrup": "chai"},
}
_VERBS = {
    "en": {
        "tab": "Take {n}",
        "cap": "Take {n}",
        "sachet": "Dissolve {n} in water",
        "inj": "Inject {n} subcutaneously",
        "cream": "Apply thinly",
        "inh": "Inhale 2 puffs",
        "spray": "1 spray under the tongue",
        "nasal": "1 spray into each nostril",
        "eye": "1 drop into each eye",
        "syrup": "Take 15 ml",
    },
    "de": {
        "tab": "{n} einnehmen",
        "cap": "{n} einnehmen",
        "sachet": "{n} in Wasser auflösen",
        "inj": "{n} subkutan spritzen",
        "cream": "Dünn auftragen",
        "inh": "2 Hübe inhalieren",
        "spray": "1 Hub unter die Zunge",
        "nasal": "1 Hub je Nasenloch",
        "eye": "1 Tropfen je Auge",
        "syrup": "15 ml einnehmen",
    },
    "vi": {
        "tab": "Uống {n}",
        "cap": "Uống {n}",
        "sachet": "Pha {n} với nước, uống",
        "inj": "Tiêm dưới da {n}",
        "cream": "Bôi lớp mỏng",
        "inh": "Hít 2 nhát",
        "spray": "Xịt dưới lưỡi 1 nhát",
        "nasal": "Xịt mỗi bên mũi 1 nhát",
        "eye": "Nhỏ mỗi mắt 1 giọt",
        "syrup": "Uống 15 ml",
    },
}
_OFTEN = {
    "en": {
        "1": ("once daily", "in the morning", "every 24 hours"),
        "2": ("twice daily", "every 12 hours"),
        "3": ("three times a day", "every 8 hours"),
        "4": ("four times a day", "every 6 hours"),
        "5": ("five times a day",),
        "w": ("once a week", "every Monday"),
    },
    "de": {
        "1": ("1x täglich", "morgens", "einmal täglich"),
        "2": ("2x täglich", "morgens und abends"),
        "3": ("3x täglich", "alle 8 Stunden"),
        "4": ("4x täglich", "alle 6 Stunden"),
        "5": ("5x täglich",),
        "w": ("1x wöchentlich", "jeden Montag"),
    },
    "vi": {
        "1": ("ngày 1 lần", "buổi sáng"),
        "2": ("ngày 2 lần", "sáng và chiều"),
        "3": ("ngày 3 lần",),
        "4": ("ngày 4 lần",),
        "5": ("ngày 5 lần",),
        "w": ("mỗi tuần 1 lần",),
    },
}
_DAYS = {"en": "for {d} days", "de": "für {d} Tage", "vi": "trong {d} ngày"}
_NEEDED = {"en": "if needed", "de": "bei Bedarf", "vi": "khi cần"}
_REMARKS = {
    "en": ("After meals", "With plenty of water", "Do not crush", "Avoid alcohol", "Finish the course"),
    "de": ("Nach dem Essen", "Mit reichlich Wasser", "Nicht zerkleinern", "Kein Alkohol", "Packung aufbrauchen"),
    "vi": ("Sau ăn", "Uống nhiều nước", "Không nhai", "Kiêng rượu bia"),
}
_COURSES = {"c": (28, 30, 60, 90), "a": (5, 7, 10), "s": (3, 5), "m": (14, 28, 42), "p": (5, 10), "o": (1,)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Medicine:
    """A prescribed drug in words. `times` and `days` are how often a day and how long; `pieces` their product."""

    name: str
    strength: str
    form: str
    quantity: str
    usage: tuple[str, ...]
    frequency: str
    times: str
    days: int
    pieces: int | None  # None for what comes in packs
    drug: Drug


def choose_diagnoses(rng: random.Random, *, sex: str, age: int, count: int) -> list[Diagnosis]:
    """Different diagnoses that befall this sex at this age, and that some drug is for."""
    treated = {key for drug in DRUGS for key in drug.diagnoses}
    fitting = [
        diagnosis
        for diagnosis in DIAGNOSES.values()
        if diagnosis.key in treated and diagnosis.sex in ("", sex) and diagnosis.ages[0] <= age <= diagnosis.ages[1]
    ]
    return rng.sample(fitting, min(count, len(fitting)))


def choose_drugs(rng: random.Random, diagnoses: list[Diagnosis], *, sex: str, most: int) -> list[Drug]:
    """Different drugs, each for one of the diagnoses: one to three for each of them."""
    chosen: list[Drug] = []
    for diagnosis in diagnoses:
        fitting = [drug for drug in DRUGS if diagnosis.key in drug.diagnoses and drug.sex in ("", sex)]
        for drug in rng.sample(fitting, min(len(fitting), rng.choice((1, 1, 2, 3)))):
            if not any(_same_class(drug, other) for other in chosen):
                chosen.append(drug)
    return chosen[:most]


def _same_class(drug: Drug, other: Drug) -> bool:
    """Whether nobody would prescribe both: the same drug, or two of a class by the ending of the name."""
    endings = (
        "pril",
        "sartan",
        "olol",
        "statin",
        "xaban",
        "gliptin",
        "prazole",
        "cillin",
        "triptan",
        "gliflozin",
        "xacin",
    )
    names = drug.names["en"].split("/")[0].lower(), other.names["en"].split("/")[0].lower()
    if any(all(name.endswith(ending) for name in names) for ending in endings):
        return True
    both = {
        "anticoagulant": "apixaban rivaroxaban dabigatran warfarin enoxaparin",
        "antiinflammatory": "ibuprofen naproxen diclofenac etoricoxib",
        "raas": "lisinopril ramipril enalapril losartan valsartan candesartan",
        "serotonin": "sertraline escitalopram citalopram venlafaxine",
        "thyroid": "carbimazole thiamazole",
        "antihistamine": "cetirizine loratadine desloratadine",
    }
    antibiotics = (
        "mycin cillin floxacin cycline cefuroxime cefalexin nitrofurantoin pivmecillinam fosfomycin trimethoprim"
    )
    is_antibiotic = [any(part in name for part in antibiotics.split()) for name in names]
    return (
        names[0] == names[1]
        or all(is_antibiotic)
        or any(all(name in group.split() for name in names) for group in both.values())
    )


def prescribe(rng: random.Random, drug: Drug, language: str) -> Medicine:
    """How a drug is prescribed; a counted quantity is times a day x days."""
    strength = rng.choice(drug.strengths)
    if language in ("de", "vi"):
        strength = strength.replace(".", ",").replace("IU", "IE" if language == "de" else "IU")
    times, days = rng.choice(drug.times), rng.choice(_COURSES[drug.course])
    frequency = rng.choice(_OFTEN[language][times])
    counted = _COUNTED[language].get(drug.form)
    pieces, quantity = None, f"1 {_PACKS[language].get(drug.form, '')}"
    if counted:
        pieces = days // 7 if times == "w" else int(times) * days
        quantity = f"{pieces} {counted[pieces != 1]}"
    verb = _VERBS[language][drug.form].format(n=f"1 {counted[0]}" if counted else "")
    ending = _NEEDED[language] if drug.course == "p" else ""
    if drug.course in "as" and rng.random() < 0.7:
        ending = _DAYS[language].format(d=days)
    usage = [" ".join(part for part in (verb, frequency, ending) if part)]
    if rng.random() < 0.3:
        usage.append(rng.choice(_REMARKS[language][: 4 if drug.course != "a" else 5]))
    return Medicine(
        name=drug.names[language],
        strength=strength,
        form=drug.form,
        quantity=quantity,
        usage=tuple(usage),
        frequency=frequency + (f", {ending}" if drug.course == "p" else ""),
        times=times,
        days=days,
        pieces=pieces,
        drug=drug,
    )
