"""Laboratory analytes: names, units in two systems, reference ranges by sex, how healthy values spread, LOINC codes.

A line is `key | English names | German names | unit | decimals | range of men | range of women | spread | SI unit,
factor, decimals | LOINC | limit of detection`. A range is "low-high", "<high" or ">low"; "=" repeats the men's.
`spread` is "mean,sd" or "log median,factor" of healthy people where the range does not give it. LOINC codes are those
of the conventional unit (2345-7 is a mass of glucose per volume) and stand only where they are certain.
"""

from dataclasses import dataclass

_TABLE = """
[blood | Haematology; CBC; Full blood count | Blutbild; Hämatologie; Kleines Blutbild]
wbc | WBC; Leukocytes; White cell count | Leukozyten; Leukozyten (WBC) | 10^3/µL | 1 | 4.0-10.5 | = | | 10^9/L,1,1 | 6690-2 |
rbc | RBC; Erythrocytes; Red cell count | Erythrozyten; Erythrozyten (RBC) | 10^6/µL | 2 | 4.40-5.90 | 3.90-5.20 | | 10^12/L,1,2 | 789-8 |
hb | Hemoglobin; Haemoglobin; Hb; HGB | Hämoglobin; Hb | g/dL | 1 | 13.5-17.5 | 12.0-15.5 | | g/L,10,0 | 718-7 |
hct | Hematocrit; HCT; Haematocrit | Hämatokrit; Hkt | % | 1 | 40.0-52.0 | 36.0-46.0 | | L/L,0.01,3 | 4544-3 |
mcv | MCV; Mean cell volume | MCV | fL | 1 | 80.0-98.0 | = | | = | 787-2 |
mch | MCH; Mean cell haemoglobin | MCH (HbE); MCH | pg | 1 | 27.0-33.5 | = | | = | 785-6 |
mchc | MCHC | MCHC | g/dL | 1 | 31.5-36.0 | = | | g/L,10,0 | 786-4 |
rdw | RDW; RDW-CV | EVB (RDW); RDW | % | 1 | 11.5-14.5 | = | | = | 788-0 |
plt | Platelets; PLT; Platelet count | Thrombozyten | 10^3/µL | 0 | 150-400 | = | | 10^9/L,1,0 | 777-3 |
retic | Reticulocytes; Reticulocyte count | Retikulozyten | % | 1 | 0.5-2.5 | = | | = | |
[differential | Differential; White cell differential | Differenzialblutbild; Diff.-BB]
neut_pct | Neutrophils %; Neutrophils (rel.) | Neutrophile rel. | % | 1 | 40.0-75.0 | = | | = | 770-8 |
lymph_pct | Lymphocytes %; Lymphocytes (rel.) | Lymphozyten rel. | % | 1 | 20.0-45.0 | = | | = | 736-9 |
mono_pct | Monocytes %; Monocytes (rel.) | Monozyten rel. | % | 1 | 2.0-10.0 | = | | = | 5905-5 |
eos_pct | Eosinophils %; Eosinophils (rel.) | Eosinophile rel. | % | 1 | 0.5-6.0 | = | | = | 713-8 |
baso_pct | Basophils %; Basophils (rel.) | Basophile rel. | % | 1 | <2.0 | = | 0.6,0.2 | = | 706-2 |
neut_abs | Neutrophils abs.; ANC | Neutrophile abs. | 10^3/µL | 2 | 1.80-7.50 | = | | 10^9/L,1,2 | |
lymph_abs | Lymphocytes abs. | Lymphozyten abs. | 10^3/µL | 2 | 1.00-4.00 | = | | 10^9/L,1,2 | |
[metabolic | Metabolic panel; Chemistry; Basic metabolic panel | Klinische Chemie; Elektrolyte und Niere]
glucose | Glucose; Glucose, plasma; Blood glucose | Glukose; Glucose (Plasma); Blutzucker | mg/dL | 0 | 70-99 | = | | mmol/L,0.05551,1 | 2345-7 |
bun | Urea nitrogen; BUN | Harnstoff-N; Harnstoff-Stickstoff | mg/dL | 0 | 7-20 | = | | mmol/L,0.357,1 | 3094-0 |
creat | Creatinine; Creatinine, serum | Kreatinin; Kreatinin i.S. | mg/dL | 2 | 0.70-1.30 | 0.55-1.05 | | µmol/L,88.42,0 | 2160-0 |
egfr | eGFR (CKD-EPI 2021); eGFR | eGFR (CKD-EPI); GFR geschätzt | mL/min/1.73 m2 | 0 | >60 | = | 95,15 | = | |
na | Sodium; Na | Natrium; Natrium (Na) | mmol/L | 0 | 136-145 | = | | = | 2951-2 |
k | Potassium; K | Kalium; Kalium (K) | mmol/L | 1 | 3.5-5.1 | = | | = | 2823-3 |
cl | Chloride; Cl | Chlorid | mmol/L | 0 | 98-107 | = | | = | 2075-0 |
hco3 | Bicarbonate; CO2, total | Bikarbonat; Standardbikarbonat | mmol/L | 0 | 22-29 | = | | = | 2028-9 |
gap | Anion gap | Anionenlücke | mmol/L | 0 | 4-16 | = | | = | |
ca | Calcium; Calcium, total | Kalzium; Calcium gesamt | mg/dL | 1 | 8.6-10.2 | = | | mmol/L,0.2495,2 | 17861-6 |
mg | Magnesium | Magnesium | mg/dL | 1 | 1.7-2.4 | = | | mmol/L,0.4114,2 | 19123-9 |
phos | Phosphate; Phosphorus | Phosphat; Phosphat, anorg. | mg/dL | 1 | 2.5-4.5 | = | | mmol/L,0.3229,2 | 2777-1 |
urate | Uric acid; Urate | Harnsäure | mg/dL | 1 | 3.5-7.2 | 2.6-6.0 | | µmol/L,59.48,0 | 3084-1 |
[lipids | Lipid panel; Lipids | Lipide; Fettstoffwechsel]
chol | Cholesterol, total; Total cholesterol | Cholesterin gesamt; Gesamtcholesterin | mg/dL | 0 | <200 | = | 186,24 | mmol/L,0.02586,2 | 2093-3 |
tg | Triglycerides | Triglyzeride; Triglyceride | mg/dL | 0 | <150 | = | log 95,1.4 | mmol/L,0.01129,2 | 2571-8 |
hdl | HDL cholesterol; HDL-C | HDL-Cholesterin | mg/dL | 0 | >40 | >50 | 58,11 | mmol/L,0.02586,2 | 2085-9 |
ldl | LDL cholesterol (calc.); LDL-C (Friedewald) | LDL-Cholesterin (berechnet) | mg/dL | 0 | <130 | = | 110,22 | mmol/L,0.02586,2 | 13457-7 |
nonhdl | Non-HDL cholesterol | Non-HDL-Cholesterin | mg/dL | 0 | <160 | = | 130,22 | mmol/L,0.02586,2 | 43396-1 |
[liver | Liver function; Hepatic panel; LFT | Leberwerte; Leberdiagnostik]
alt | ALT; ALT (GPT); Alanine aminotransferase | GPT (ALT); ALAT | U/L | 0 | <50 | <35 | log 21,1.4 | µkat/L,0.01667,2 | 1742-6 |
ast | AST; AST (GOT); Aspartate aminotransferase | GOT (AST); ASAT | U/L | 0 | <50 | <35 | log 22,1.3 | µkat/L,0.01667,2 | 1920-8 |
ggt | GGT; Gamma-GT | Gamma-GT; GGT | U/L | 0 | <60 | <40 | log 21,1.5 | µkat/L,0.01667,2 | 2324-2 |
alp | Alkaline phosphatase; ALP | Alkalische Phosphatase; AP | U/L | 0 | 40-130 | 35-105 | | µkat/L,0.01667,2 | 6768-6 |
bili | Bilirubin, total; Total bilirubin | Bilirubin gesamt | mg/dL | 1 | 0.2-1.2 | = | | µmol/L,17.1,0 | 1975-2 |
bili_d | Bilirubin, direct; Conjugated bilirubin | Bilirubin direkt | mg/dL | 1 | <0.4 | = | 0.15,0.05 | µmol/L,17.1,0 | 1968-7 | 0.1
tp | Total protein; Protein, total | Gesamteiweiß; Eiweiß gesamt | g/dL | 1 | 6.4-8.3 | = | | g/L,10,0 | 2885-2 |
alb | Albumin | Albumin; Albumin i.S. | g/dL | 1 | 3.5-5.2 | = | | g/L,10,0 | 1751-7 |
glob | Globulin (calc.) | Globuline (berechnet) | g/dL | 1 | 2.0-3.9 | = | | g/L,10,0 | |
ldh | LDH; Lactate dehydrogenase | LDH | U/L | 0 | 125-220 | = | | µkat/L,0.01667,2 | 14804-9 |
[thyroid | Thyroid; Thyroid function | Schilddrüse; Schilddrüsendiagnostik]
tsh | TSH; Thyrotropin | TSH basal; TSH | mIU/L | 2 | 0.40-4.20 | = | | = | 3016-3 | 0.01
ft4 | Free T4; FT4; Thyroxine, free | fT4; Freies Thyroxin | ng/dL | 2 | 0.90-1.70 | = | | pmol/L,12.87,1 | 3024-7 |
ft3 | Free T3; FT3 | fT3; Freies Trijodthyronin | pg/mL | 1 | 2.0-4.4 | = | | pmol/L,1.536,1 | 3051-0 |
tpo | Anti-TPO; TPO antibodies | TPO-Antikörper; Anti-TPO | IU/mL | 0 | <34 | = | log 14,1.4 | = | | 9
[coagulation | Coagulation; Clotting screen | Gerinnung; Hämostaseologie]
pt | Prothrombin time; PT | Prothrombinzeit | s | 1 | 10.5-13.5 | = | | = | 5902-2 |
inr | INR | INR | | 2 | 0.85-1.20 | = | | = | 6301-6 |
aptt | aPTT; APTT | aPTT; PTT | s | 1 | 25.0-37.0 | = | | = | 14979-9 |
fib | Fibrinogen | Fibrinogen | mg/dL | 0 | 200-400 | = | | g/L,0.01,1 | 3255-7 |
ddimer | D-dimer | D-Dimere | mg/L FEU | 2 | <0.50 | = | log 0.27,1.3 | = | | 0.19
[iron | Iron studies; Anaemia work-up | Eisenstoffwechsel; Anämiediagnostik]
iron | Iron; Iron, serum | Eisen; Eisen i.S. | µg/dL | 0 | 60-170 | 50-160 | | µmol/L,0.1791,1 | 2498-4 |
tibc | TIBC; Iron binding capacity | Eisenbindungskapazität; TEBK | µg/dL | 0 | 250-425 | = | | µmol/L,0.1791,1 | 2500-7 |
tsat | Transferrin saturation; TSAT | Transferrinsättigung | % | 0 | 16-45 | = | | = | 2502-3 |
ferritin | Ferritin | Ferritin | ng/mL | 0 | 30-400 | 15-150 | | µg/L,1,0 | 2276-4 |
b12 | Vitamin B12; Cobalamin | Vitamin B12 | pg/mL | 0 | 200-900 | = | | pmol/L,0.7378,0 | 2132-9 |
folate | Folate; Folic acid | Folsäure; Folat | ng/mL | 1 | 4.0-20.0 | = | | nmol/L,2.266,1 | 2284-8 |
[inflammation | Inflammation; Acute phase | Entzündung; Entzündungsparameter]
crp | CRP; C-reactive protein | CRP; C-reaktives Protein | mg/L | 1 | <5.0 | = | log 1.3,1.9 | = | 1988-5 | 0.3
pct | Procalcitonin; PCT | Procalcitonin; PCT | ng/mL | 2 | <0.50 | = | log 0.04,1.6 | µg/L,1,2 | | 0.05
esr | ESR; Sedimentation rate | BSG; Blutsenkung (1 h) | mm/h | 0 | <20 | <30 | log 9,1.5 | = | |
[diabetes | Diabetes; Glycated haemoglobin | Diabetes; Diabetesdiagnostik]
hba1c | HbA1c; Hemoglobin A1c; Glycated Hb | HbA1c; HbA1c (NGSP) | % | 1 | 4.0-5.6 | = | | = | 4548-4 |
eag | Estimated average glucose; eAG | Mittlere Glukose (eAG) | mg/dL | 0 | <117 | = | 105,8 | mmol/L,0.05551,1 | 27353-2 |
insulin | Insulin; Insulin, fasting | Insulin; Insulin nüchtern | µIU/mL | 1 | 2.6-24.9 | = | | = | |
cpep | C-peptide | C-Peptid | ng/mL | 2 | 0.80-3.90 | = | | nmol/L,0.331,2 | |
[enzymes | Enzymes and cardiac markers; Cardiac markers | Enzyme; Herzmarker und Enzyme]
ck | CK; Creatine kinase | CK gesamt; Kreatinkinase | U/L | 0 | 40-200 | 30-170 | | µkat/L,0.01667,2 | 2157-6 |
lipase | Lipase | Lipase | U/L | 0 | <60 | = | log 28,1.4 | µkat/L,0.01667,2 | 3040-3 |
amylase | Amylase | Amylase | U/L | 0 | 28-100 | = | | µkat/L,0.01667,2 | 1798-8 |
trop | Troponin T, hs; hs-TnT | Troponin T hs; hs-TnT | ng/L | 0 | <14 | = | log 5,1.4 | = | | 3
bnp | NT-proBNP | NT-proBNP | pg/mL | 0 | <125 | = | log 55,1.5 | ng/L,1,0 | | 10
[hormones | Hormones and vitamins; Endocrinology | Hormone und Vitamine; Endokrinologie]
vitd | Vitamin D, 25-OH; 25-OH vitamin D | Vitamin D (25-OH); 25-OH-Vitamin D | ng/mL | 0 | 30-80 | = | | nmol/L,2.496,0 | 1989-3 | 4
pth | PTH, intact; Parathyroid hormone | Parathormon intakt; PTH | pg/mL | 0 | 15-65 | = | | pmol/L,0.106,1 | 2731-8 |
cortisol | Cortisol (8 a.m.); Cortisol, morning | Cortisol (8 Uhr) | µg/dL | 1 | 6.0-18.5 | = | | nmol/L,27.59,0 | |
prolactin | Prolactin | Prolaktin | ng/mL | 1 | 4.0-15.2 | 4.8-23.3 | | µg/L,1,1 | |
testo | Testosterone, total | Testosteron gesamt | ng/dL | 0 | 280-950 | 12-48 | | nmol/L,0.03467,1 | |
psa | PSA, total; Prostate specific antigen | PSA gesamt; PSA | ng/mL | 2 | <4.00 | = | log 0.9,1.9 | µg/L,1,2 | 2857-1 | 0.01
"""  # noqa: E501 (a table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A reference range in conventional units; a side that is open is None."""

    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSystem:
    """How an analyte is printed in one system of units: factor from the conventional unit, digits behind the point."""

    unit: str
    factor: float
    decimals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyte:
    """One quantity that a laboratory measures. `spread` is (mean, sd), or (median, factor) where `is_log`."""

    key: str
    panel: str
    names: dict[str, tuple[str, ...]]
    bounds: dict[str, Bounds]  # by sex
    spread: tuple[float, float] | None
    is_log: bool
    systems: dict[str, UnitSystem]  # "conventional" and "si"
    loinc: str
    detection_limit: float | None


def _bounds(text: str) -> Bounds:
    if text[0] in "<>":
        limit = float(text[1:])
        return Bounds(low=None, high=limit) if text[0] == "<" else Bounds(low=limit, high=None)
    low, high = text.split("-")
    return Bounds(low=float(low), high=float(high))


def _wordings(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";"))


def _analyte(line: str, panel: str) -> Analyte:
    key, english, german, unit, decimals, male, female, spread, si, loinc, limit = (c.strip() for c in line.split("|"))
    conventional = UnitSystem(unit=unit, factor=1.0, decimals=int(decimals))
    other = conventional
    if si != "=":
        si_unit, factor, si_decimals = si.split(",")
        other = UnitSystem(unit=si_unit, factor=float(factor), decimals=int(si_decimals))
    numbers = spread.removeprefix("log ").split(",") if spread else []
    return Analyte(
        key=key,
        panel=panel,
        names={"en": _wordings(english), "de": _wordings(german)},
        bounds={"male": _bounds(male), "female": _bounds(male if female == "=" else female)},
        spread=(float(numbers[0]), float(numbers[1])) if numbers else None,
        is_log=spread.startswith("log "),
        systems={"conventional": conventional, "si": other},
        loinc=loinc,
        detection_limit=float(limit) if limit else None,
    )


def _read() -> tuple[dict[str, Analyte], dict[str, dict[str, tuple[str, ...]]]]:
    analytes: dict[str, Analyte] = {}
    panels: dict[str, dict[str, tuple[str, ...]]] = {}
    panel = ""
    for line in _TABLE.strip().splitlines():
        if line.startswith("["):
            panel, english, german = (part.strip() for part in line.strip("[]").split("|"))
            panels[panel] = {"en": _wordings(english), "de": _wordings(german)}
        else:
            analyte = _analyte(line, panel)
            analytes[analyte.key] = analyte
    return analytes, panels


ANALYTES, PANELS = _read()

# Urine test strip: names, the result of healthy people, and what the strip can show beside it.
URINE = (
    ("Protein", "Eiweiß", "negative", ("trace", "+", "++")),
    ("Glucose (urine)", "Glukose (Urin)", "negative", ("+", "++", "+++")),
    ("Ketones", "Ketone", "negative", ("trace", "+", "++")),
    ("Blood", "Erythrozyten/Hb", "negative", ("trace", "+", "++", "+++")),
    ("Leukocyte esterase", "Leukozytenesterase", "negative", ("+", "++", "+++")),
    ("Nitrite", "Nitrit", "negative", ("positive",)),
    ("Bilirubin (urine)", "Bilirubin (Urin)", "negative", ("+",)),
    ("Urobilinogen", "Urobilinogen", "normal", ("+", "++")),
)
URINE_PANEL = {"en": ("Urinalysis", "Urine dipstick"), "de": ("Urinstatus", "Urinteststreifen")}
SEROLOGY = (
    ("ANA (IFA)", "ANA (IFT)", ("1:40", "<1:80"), ("1:160", "1:320", "1:640"), "<1:80"),
    ("HBs antigen", "HBs-Antigen", ("negative",), ("positive",), "negative"),
    ("Anti-HCV", "Anti-HCV", ("negative",), ("positive",), "negative"),
    ("HIV Ag/Ab", "HIV-Ag/Ak", ("negative",), (), "negative"),
    ("Rheumatoid factor (latex)", "Rheumafaktor (Latex)", ("negative",), ("positive",), "negative"),
)
SEROLOGY_PANEL = {"en": ("Serology", "Immunology"), "de": ("Serologie", "Immunologie")}
GERMAN_FINDINGS = {"negative": "negativ", "positive": "positiv", "trace": "(+)", "normal": "normal"}
