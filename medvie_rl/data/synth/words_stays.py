"""Reasons for a stay in hospital: ward, days, procedures and course, in English and German.

The keys are those of `words_diagnoses`; `procedures` and `course` have their sentences in the same order in both
languages.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """What happens in hospital to somebody with a principal diagnosis."""

    ward: dict[str, str]
    days: tuple[int, int]
    procedures: dict[str, tuple[str, ...]]
    course: dict[str, tuple[str, ...]]


_CARDIOLOGY = {"en": "Cardiology", "de": "Kardiologie"}
_MEDICINE = {"en": "Internal medicine", "de": "Innere Medizin"}
_SURGERY = {"en": "General surgery", "de": "Allgemeinchirurgie"}
STAYS = {
    "infarction": Stay(
        ward=_CARDIOLOGY,
        days=(4, 9),
        procedures={
            "en": ("Coronary angiography", "Drug-eluting stent to the LAD", "Echocardiography"),
            "de": ("Koronarangiographie", "Stentimplantation RIVA", "Echokardiographie"),
        },
        course={
            "en": (
                "Admitted with chest pain and raised troponin.",
                "Revascularisation was uneventful.",
                "No arrhythmia on monitoring.",
            ),
            "de": (
                "Aufnahme mit Thoraxschmerz und erhöhtem Troponin.",
                "Komplikationslose Revaskularisation.",
                "Keine Rhythmusstörungen am Monitor.",
            ),
        },
    ),
    "heart_failure": Stay(
        ward=_CARDIOLOGY,
        days=(5, 14),
        procedures={"en": ("Echocardiography", "Chest X-ray"), "de": ("Echokardiographie", "Röntgen Thorax")},
        course={
            "en": (
                "Admitted with dyspnoea and leg oedema.",
                "Improved under intravenous diuretics.",
                "Weight fell by {n} kg.",
            ),
            "de": (
                "Aufnahme mit Dyspnoe und Beinödemen.",
                "Besserung unter intravenöser Diurese.",
                "Gewichtsabnahme um {n} kg.",
            ),
        },
    ),
    "pneumonia": Stay(
        ward=_MEDICINE,
        days=(4, 12),
        procedures={"en": ("Chest X-ray", "Blood cultures"), "de": ("Röntgen Thorax", "Blutkulturen")},
        course={
            "en": (
                "Admitted with fever and productive cough.",
                "Intravenous antibiotics for {n} days, then oral.",
                "Afebrile at discharge.",
            ),
            "de": (
                "Aufnahme mit Fieber und produktivem Husten.",
                "Intravenöse Antibiose für {n} Tage, dann oral.",
                "Bei Entlassung fieberfrei.",
            ),
        },
    ),
    "copd": Stay(
        ward={"en": "Respiratory medicine", "de": "Pneumologie"},
        days=(4, 11),
        procedures={
            "en": ("Spirometry", "Arterial blood gas analysis", "Chest X-ray"),
            "de": ("Spirometrie", "Arterielle Blutgasanalyse", "Röntgen Thorax"),
        },
        course={
            "en": (
                "Exacerbation with increasing dyspnoea.",
                "Responded to bronchodilators and steroids.",
                "No ventilation was needed.",
            ),
            "de": (
                "Exazerbation mit zunehmender Luftnot.",
                "Gutes Ansprechen auf Bronchodilatatoren und Steroide.",
                "Keine Beatmung erforderlich.",
            ),
        },
    ),
    "stroke": Stay(
        ward={"en": "Stroke unit", "de": "Stroke Unit"},
        days=(5, 15),
        procedures={
            "en": ("CT head", "MRI brain", "Carotid duplex"),
            "de": ("CT Schädel", "MRT Schädel", "Duplexsonographie der Karotiden"),
        },
        course={
            "en": (
                "Admitted with sudden weakness of the left arm.",
                "Outside the window for thrombolysis.",
                "Strength improved with physiotherapy.",
            ),
            "de": (
                "Aufnahme mit plötzlicher Schwäche des linken Arms.",
                "Außerhalb des Lysefensters.",
                "Besserung der Kraft unter Physiotherapie.",
            ),
        },
    ),
    "embolism": Stay(
        ward=_MEDICINE,
        days=(4, 9),
        procedures={
            "en": ("CT pulmonary angiography", "Echocardiography", "Leg vein ultrasound"),
            "de": ("CT-Angiographie der Pulmonalarterien", "Echokardiographie", "Beinvenensonographie"),
        },
        course={
            "en": (
                "Admitted with acute dyspnoea.",
                "Haemodynamically stable throughout.",
                "Anticoagulation was started.",
            ),
            "de": (
                "Aufnahme mit akuter Dyspnoe.",
                "Durchgehend hämodynamisch stabil.",
                "Beginn einer Antikoagulation.",
            ),
        },
    ),
    "pyelonephritis": Stay(
        ward=_MEDICINE,
        days=(3, 8),
        procedures={"en": ("Renal ultrasound", "Urine culture"), "de": ("Nierensonographie", "Urinkultur")},
        course={
            "en": ("Admitted with fever and flank pain.", "No obstruction on ultrasound.", "Afebrile after {n} days."),
            "de": (
                "Aufnahme mit Fieber und Flankenschmerz.",
                "Sonographisch kein Harnstau.",
                "Fieberfrei nach {n} Tagen.",
            ),
        },
    ),
    "diverticulitis": Stay(
        ward=_SURGERY,
        days=(3, 9),
        procedures={"en": ("CT abdomen",), "de": ("CT Abdomen",)},
        course={
            "en": (
                "Admitted with left lower abdominal pain.",
                "Conservative treatment with antibiotics.",
                "Diet was advanced without pain.",
            ),
            "de": (
                "Aufnahme mit linksseitigem Unterbauchschmerz.",
                "Konservative Therapie mit Antibiotika.",
                "Beschwerdefreier Kostaufbau.",
            ),
        },
    ),
    "cholecystitis": Stay(
        ward=_SURGERY,
        days=(3, 7),
        procedures={
            "en": ("Laparoscopic cholecystectomy", "Abdominal ultrasound"),
            "de": ("Laparoskopische Cholezystektomie", "Abdomensonographie"),
        },
        course={
            "en": ("Admitted with right upper quadrant pain.", "Surgery was uneventful.", "Wounds dry at discharge."),
            "de": (
                "Aufnahme mit rechtsseitigem Oberbauchschmerz.",
                "Komplikationsloser Eingriff.",
                "Wunden bei Entlassung reizlos.",
            ),
        },
    ),
    "appendicitis": Stay(
        ward=_SURGERY,
        days=(2, 6),
        procedures={"en": ("Laparoscopic appendicectomy",), "de": ("Laparoskopische Appendektomie",)},
        course={
            "en": (
                "Admitted with migrating abdominal pain.",
                "Appendix removed laparoscopically.",
                "Discharged eating normally.",
            ),
            "de": (
                "Aufnahme mit wanderndem Bauchschmerz.",
                "Laparoskopische Entfernung der Appendix.",
                "Kostaufbau problemlos.",
            ),
        },
    ),
    "hip_fracture": Stay(
        ward={"en": "Trauma surgery", "de": "Unfallchirurgie"},
        days=(7, 16),
        procedures={
            "en": ("Hemiarthroplasty of the hip", "X-ray pelvis"),
            "de": ("Implantation einer Duokopfprothese", "Röntgen Becken"),
        },
        course={
            "en": ("Admitted after a fall at home.", "Operated on within 24 hours.", "Mobilised with a frame."),
            "de": (
                "Aufnahme nach häuslichem Sturz.",
                "Operation innerhalb von 24 Stunden.",
                "Mobilisation am Rollator.",
            ),
        },
    ),
    "cirrhosis": Stay(
        ward={"en": "Gastroenterology", "de": "Gastroenterologie"},
        days=(5, 14),
        procedures={"en": ("Abdominal paracentesis", "Gastroscopy"), "de": ("Aszitespunktion", "Gastroskopie")},
        course={
            "en": ("Admitted with increasing ascites.", "{n} litres were drained.", "No varices needing treatment."),
            "de": (
                "Aufnahme mit zunehmendem Aszites.",
                "Es wurden {n} Liter abpunktiert.",
                "Keine behandlungsbedürftigen Varizen.",
            ),
        },
    ),
}
FOLLOW_UPS = {
    "en": (
        "Review by the family doctor in {n} weeks.",
        "Outpatient appointment in {n} weeks.",
        "Repeat blood tests in {n} weeks.",
        "Removal of sutures by the family doctor after {n} days.",
    ),
    "de": (
        "Kontrolle beim Hausarzt in {n} Wochen.",
        "Ambulante Wiedervorstellung in {n} Wochen.",
        "Laborkontrolle in {n} Wochen.",
        "Fadenzug beim Hausarzt nach {n} Tagen.",
    ),
}
ALLERGIES = {
    "en": ("Penicillin", "Ibuprofen", "Sulfonamides", "Latex", "Iodinated contrast", "Peanuts"),
    "de": ("Penicillin", "Ibuprofen", "Sulfonamide", "Latex", "Jodhaltiges Kontrastmittel", "Erdnüsse"),
}
