"""Laboratory values of somebody with a few latent conditions, so that values that belong together move together.

Every condition has a severity; each analyte is a healthy value shifted by severity times the condition's effect, in
standard deviations of healthy people. What is calculated in a laboratory is calculated here, from the rounded values:
red cell indices, differential counts, LDL by Friedewald, eGFR by CKD-EPI 2021, anion gap, transferrin saturation,
average glucose from HbA1c (Nathan 2008).
"""

import math
import random
from collections.abc import Mapping, Sequence

from medvie_rl.data.synth.words_analytes import ANALYTES, Analyte

# Shifts in standard deviations at severity 1.
_EFFECTS: dict[str, str] = {
    "iron_deficiency": "hb -3.2 mcv -3.4 mchc -1.6 rdw 3.5 plt 1.2 iron -2.6 tibc 2.6 ferritin -4.5 retic -0.5",
    "vitamin_b12_deficiency": "hb -3.0 mcv 4.5 rdw 2.8 plt -0.9 b12 -2.8 ldh 2.5 bili 0.9 retic -0.8",
    "diabetes": "glucose 8.5 hba1c 6.5 tg 1.5 hdl -0.9 urate 0.5 insulin 1.0 cpep 0.5 na -0.4",
    "renal_failure": "creat 6.5 bun 5.5 k 1.9 hco3 -1.9 phos 2.2 hb -2.2 urate 1.9 pth 3.0 ca -0.8 vitd -1.0 bnp 2.2",
    "infection": "wbc 3.2 neut 1.6 crp 5.8 pct 4.2 esr 2.4 ferritin 1.0 iron -1.2 plt 0.9 fib 1.9 alb -0.8 ddimer 2.2",
    "hypothyroidism": "tsh 3.6 ft4 -2.7 ft3 -1.4 chol 1.6 tpo 7.0 ck 1.2 mcv 0.5 tg 0.6 prolactin 0.6",
    "hyperthyroidism": "tsh -9.0 ft4 3.6 ft3 3.2 chol -1.0 alp 0.8 ca 0.4 tpo 3.0",
    "liver_disease": "alt 4.2 ast 4.0 ggt 4.8 alp 1.9 bili 3.2 alb -1.8 pt 2.4 plt -1.6 mcv 1.2 ldh 1.5 ferritin 1.0",
    "dyslipidaemia": "chol 2.4 tg 1.6 hdl -0.6",
    "vitamin_d_deficiency": "vitd -2.4 pth 1.7 ca -0.7 phos -0.5 alp 0.7",
    "heart_failure": "bnp 6.0 trop 2.4 na -1.5 creat 1.2 bun 1.5 alb -0.5",
}
CONDITIONS = tuple(_EFFECTS)
_SKEWED = frozenset(
    [
        "wbc",
        "plt",
        "glucose",
        "creat",
        "bun",
        "ferritin",
        "tsh",
        "b12",
        "folate",
        "ck",
        "prolactin",
        "pth",
        "insulin",
        "cpep",
        "amylase",
        "hba1c",
        "bili",
        "vitd",
    ]
)
_FLOORS = {
    "hb": 5.8,
    "mcv": 58.0,
    "na": 118.0,
    "alb": 1.8,
    "hco3": 9.0,
    "ca": 6.4,
    "hdl": 18.0,
    "tibc": 180.0,
    "ft4": 0.15,
}
_CEILINGS = {
    "mcv": 128.0,
    "k": 6.9,
    "hba1c": 14.5,
    "glucose": 480.0,
    "creat": 9.8,
    "ca": 13.0,
    "mchc": 36.8,
    "wbc": 38.0,
}


def draw_conditions(rng: random.Random) -> tuple[str, ...]:
    """What somebody has: nothing for a quarter, else one condition or two."""
    count = rng.choices((0, 1, 2), (0.25, 0.42, 0.33))[0]
    chosen = rng.sample(CONDITIONS, count)
    if "hypothyroidism" in chosen and "hyperthyroidism" in chosen:
        chosen.remove("hyperthyroidism")
    return tuple(chosen)


def affected_analytes(conditions: Sequence[str]) -> frozenset[str]:
    """Keys of what these conditions change: a doctor who suspects them has it measured."""
    return frozenset(key for condition in conditions for key in _EFFECTS[condition].split()[::2])


def draw_values(rng: random.Random, *, sex: str, age: int, conditions: Sequence[str]) -> dict[str, float]:
    """A value in conventional units for every analyte, rounded to the digits that a report prints."""
    shifts: dict[str, float] = {}
    for condition in conditions:
        severity = rng.uniform(0.5, 1.3)
        effects = _EFFECTS[condition].split()
        for key, effect in zip(effects[::2], effects[1::2], strict=True):
            shifts[key] = shifts.get(key, 0.0) + float(effect) * severity * rng.uniform(0.8, 1.2)
    values = {key: _draw(rng, analyte, sex, age, shifts.get(key, 0.0)) for key, analyte in ANALYTES.items()}
    _red_cells(values)
    _white_cells(rng, values, shifts.get("neut", 0.0))
    _chemistry(values, sex=sex, age=age)
    return values


def _draw(rng: random.Random, analyte: Analyte, sex: str, age: int, shift: float) -> float:
    bounds = analyte.bounds[sex]
    value: float
    z = max(-2.6, min(2.6, rng.gauss(0.0, 0.95))) + shift
    if analyte.spread is None:
        assert bounds.low is not None and bounds.high is not None, f"{analyte.key} needs a spread: its range is open"
        if analyte.key in _SKEWED:
            factor = (bounds.high / bounds.low) ** 0.25
            value = math.sqrt(bounds.low * bounds.high) * factor**z
        else:
            value = (bounds.low + bounds.high) / 2 + z * (bounds.high - bounds.low) / 4
    elif analyte.is_log:
        value = analyte.spread[0] * math.exp(math.log(analyte.spread[1]) * z)
    else:
        value = analyte.spread[0] + z * analyte.spread[1]
    value *= float(_AGEING.get(analyte.key, 1.0) ** max(0, age - 50))
    smallest = float(10.0 ** -analyte.systems["conventional"].decimals)
    value = max(value, _FLOORS.get(analyte.key, (bounds.low or 0.0) * 0.08), smallest / 4)
    return round(min(value, _CEILINGS.get(analyte.key, value)), analyte.systems["conventional"].decimals)


_AGEING = {"creat": 1.002, "esr": 1.006, "bnp": 1.018, "trop": 1.009, "psa": 1.015, "ddimer": 1.006, "tsh": 1.002}


def _red_cells(values: dict[str, float]) -> None:
    """Indices from haemoglobin, mean volume and concentration; each is then calculated from the rounded counts."""
    hct = values["hb"] / values["mchc"] * 100
    values["rbc"] = round(hct * 10 / values["mcv"], 2)
    values["hct"] = round(hct, 1)
    values["mcv"] = round(values["hct"] * 10 / values["rbc"], 1)
    values["mch"] = round(values["hb"] * 10 / values["rbc"], 1)
    values["mchc"] = round(values["hb"] * 100 / values["hct"], 1)


def _white_cells(rng: random.Random, values: dict[str, float], shift: float) -> None:
    """A differential count that adds up to 100 %."""
    raw = {
        "neut_pct": max(20.0, rng.gauss(58.0 + 9 * shift, 6.0)),
        "lymph_pct": max(4.0, rng.gauss(31.0 - 5 * shift, 5.0)),
        "mono_pct": max(1.0, rng.gauss(7.0, 1.5)),
        "eos_pct": max(0.1, rng.gauss(2.6, 1.1)),
        "baso_pct": max(0.1, rng.gauss(0.6, 0.2)),
    }
    total = sum(raw.values())
    shares = {key: round(value / total * 100, 1) for key, value in raw.items()}
    shares["neut_pct"] = round(100 - sum(value for key, value in shares.items() if key != "neut_pct"), 1)
    values.update(shares)
    values["neut_abs"] = round(values["wbc"] * shares["neut_pct"] / 100, 2)
    values["lymph_abs"] = round(values["wbc"] * shares["lymph_pct"] / 100, 2)


def _chemistry(values: dict[str, float], *, sex: str, age: int) -> None:
    values["egfr"] = egfr(values["creat"], sex=sex, age=age)
    values["gap"] = values["na"] - values["cl"] - values["hco3"]
    if values["gap"] < 4:  # chloride follows sodium
        values["cl"] -= 4 - values["gap"]
        values["gap"] = 4
    values["hdl"] = min(values["hdl"], values["chol"] - 40)
    values["ldl"] = friedewald(values["chol"], values["hdl"], values["tg"])
    values["nonhdl"] = values["chol"] - values["hdl"]
    values["bili_d"] = round(values["bili"] * (0.22 if values["bili"] <= 1.2 else 0.55), 1)
    values["tp"] = round(max(values["tp"], values["alb"] + 1.9), 1)
    values["glob"] = round(values["tp"] - values["alb"], 1)
    values["iron"] = min(values["iron"], round(values["tibc"] * 0.85))
    values["tsat"] = float(round(values["iron"] / values["tibc"] * 100))
    values["inr"] = round((values["pt"] / 12.0) ** 1.1, 2)
    values["eag"] = float(round(28.7 * values["hba1c"] - 46.7))


def egfr(creatinine: float, *, sex: str, age: int) -> float:
    """Estimated filtration rate, mL/min/1.73 m2, from creatinine in mg/dL (CKD-EPI 2021, without race)."""
    kappa, alpha = (0.7, -0.241) if sex == "female" else (0.9, -0.302)
    ratio = creatinine / kappa
    rate = 142 * min(ratio, 1.0) ** alpha * max(ratio, 1.0) ** -1.2 * 0.9938**age
    return float(round(rate * (1.012 if sex == "female" else 1.0)))


def friedewald(cholesterol: float, hdl: float, triglycerides: float) -> float:
    """LDL cholesterol in mg/dL; the formula does not hold from 400 mg/dL of triglycerides on."""
    return float(round(cholesterol - hdl - triglycerides / 5))


def upper_limits_by_age(age: int) -> Mapping[str, float]:
    """Upper limits in conventional units that some laboratories let depend on age (years)."""
    limits = {"bnp": 125.0 if age < 75 else 450.0, "psa": 2.5 if age < 50 else 3.5 if age < 60 else 4.5}
    if age >= 50:
        limits |= {"esr": 30.0, "ddimer": age / 100}
    return limits
