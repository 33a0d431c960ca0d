"""Skin diseases for dermatology reports, in English and German.

Each has its ICD-10 code, what the skin looks like, what the dermatoscope shows, the range of sizes in mm (0, 0 where
nothing is measured), how long patients wait, and what is done.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SkinDisease:
    """A disease of the skin; texts by language, in the same order in both."""

    code: str
    name: dict[str, str]
    looks: dict[str, tuple[str, ...]]
    dermoscopy: dict[str, tuple[str, ...]]
    plan: dict[str, tuple[str, ...]]
    sizes: tuple[int, int] = (0, 0)


SITES = {
    "en": (
        "{side} forearm",
        "{side} cheek",
        "{side} shoulder",
        "{side} thigh",
        "{side} lower leg",
        "{side} hand",
        "{side} temple",
        "upper back",
        "chest",
        "nose",
        "abdomen",
    ),
    "de": (
        "Unterarm {side}",
        "Wange {side}",
        "Schulter {side}",
        "Oberschenkel {side}",
        "Unterschenkel {side}",
        "Hand {side}",
        "Schläfe {side}",
        "oberer Rücken",
        "Brust",
        "Nase",
        "Bauch",
    ),
}
DISEASES = (
    SkinDisease(
        code="C44.9",
        name={"en": "Basal cell carcinoma", "de": "Basalzellkarzinom"},
        looks={
            "en": ("Pearly papule with telangiectasia.", "Translucent nodule with a central ulcer."),
            "de": ("Glasige Papel mit Teleangiektasien.", "Glasiger Knoten mit zentraler Ulzeration."),
        },
        dermoscopy={
            "en": ("Arborising vessels.", "Blue-grey ovoid nests and arborising vessels."),
            "de": ("Baumartige Gefäße.", "Blaugraue ovoide Nester und baumartige Gefäße."),
        },
        plan={
            "en": ("Excision with 4 mm margin", "Histology", "Daily sun protection"),
            "de": ("Exzision mit 4 mm Abstand", "Histologie", "Täglicher Sonnenschutz"),
        },
        sizes=(4, 22),
    ),
    SkinDisease(
        code="C43.9",
        name={"en": "Suspected malignant melanoma", "de": "Verdacht auf malignes Melanom"},
        looks={
            "en": ("Asymmetrical macule with irregular border and several colours.",),
            "de": ("Asymmetrische, unregelmäßig begrenzte, mehrfarbige Makula.",),
        },
        dermoscopy={
            "en": (
                "Atypical network, blue-white veil and irregular streaks.",
                "Irregular globules and regression structures.",
            ),
            "de": (
                "Atypisches Netz, blauweißer Schleier und unregelmäßige Streifen.",
                "Unregelmäßige Globuli und Regressionsstrukturen.",
            ),
        },
        plan={
            "en": ("Excision with 2 mm margin", "Urgent histology", "Full skin examination"),
            "de": ("Exzision mit 2 mm Abstand", "Eilige Histologie", "Ganzkörperuntersuchung"),
        },
        sizes=(6, 28),
    ),
    SkinDisease(
        code="D22.9",
        name={"en": "Melanocytic naevus", "de": "Melanozytärer Nävus"},
        looks={
            "en": ("Symmetrical brown macule, sharply bordered.", "Soft brown papule."),
            "de": ("Symmetrische braune Makula, scharf begrenzt.", "Weiche braune Papel."),
        },
        dermoscopy={
            "en": ("Regular pigment network.", "Symmetrical globular pattern."),
            "de": ("Regelmäßiges Pigmentnetz.", "Symmetrisches globuläres Muster."),
        },
        plan={
            "en": ("No treatment needed", "Self-examination monthly", "Photographic documentation"),
            "de": ("Keine Therapie erforderlich", "Monatliche Selbstuntersuchung", "Fotodokumentation"),
        },
        sizes=(2, 8),
    ),
    SkinDisease(
        code="L57.0",
        name={"en": "Actinic keratosis", "de": "Aktinische Keratose"},
        looks={"en": ("Rough erythematous scaly patch.",), "de": ("Raue, gerötete, schuppende Plaque.",)},
        dermoscopy={
            "en": ("Strawberry pattern with white follicles.",),
            "de": ("Erdbeermuster mit weißen Follikeln.",),
        },
        plan={
            "en": ("Cryotherapy", "Fluorouracil 5% cream for 4 weeks", "Daily sun protection"),
            "de": ("Kryotherapie", "Fluorouracil 5% Creme für 4 Wochen", "Täglicher Sonnenschutz"),
        },
        sizes=(4, 15),
    ),
    SkinDisease(
        code="L82",
        name={"en": "Seborrhoeic keratosis", "de": "Seborrhoische Keratose"},
        looks={"en": ("Stuck-on waxy brown plaque.",), "de": ("Wie aufgeklebt wirkende, wachsartige braune Plaque.",)},
        dermoscopy={
            "en": ("Milia-like cysts and comedo-like openings.",),
            "de": ("Milienartige Zysten und pseudokomedoartige Öffnungen.",),
        },
        plan={
            "en": ("Reassurance", "Curettage on request"),
            "de": ("Aufklärung über Gutartigkeit", "Kürettage auf Wunsch"),
        },
        sizes=(5, 25),
    ),
    SkinDisease(
        code="L40.0",
        name={"en": "Plaque psoriasis", "de": "Psoriasis vulgaris"},
        looks={
            "en": ("Sharply bordered red plaques with silvery scale.",),
            "de": ("Scharf begrenzte rote Plaques mit silbriger Schuppung.",),
        },
        dermoscopy={
            "en": ("Regularly distributed dotted vessels.",),
            "de": ("Regelmäßig verteilte punktförmige Gefäße.",),
        },
        plan={
            "en": (
                "Calcipotriol with betamethasone once daily",
                "Emollient twice daily",
                "Phototherapy if no response",
            ),
            "de": (
                "Calcipotriol mit Betamethason 1x täglich",
                "Basispflege 2x täglich",
                "Phototherapie bei fehlendem Ansprechen",
            ),
        },
    ),
    SkinDisease(
        code="L20.9",
        name={"en": "Atopic dermatitis", "de": "Atopische Dermatitis"},
        looks={
            "en": ("Ill-defined erythema with excoriation and lichenification.",),
            "de": ("Unscharf begrenztes Erythem mit Exkoriationen und Lichenifikation.",),
        },
        dermoscopy={"en": (), "de": ()},
        plan={
            "en": ("Mometasone cream once daily for 10 days", "Emollient twice daily", "Avoid known triggers"),
            "de": ("Mometason Creme 1x täglich für 10 Tage", "Basispflege 2x täglich", "Auslöser meiden"),
        },
    ),
    SkinDisease(
        code="B35.4",
        name={"en": "Tinea corporis", "de": "Tinea corporis"},
        looks={
            "en": ("Annular plaque with scaling edge and central clearing.",),
            "de": ("Anuläre Plaque mit schuppendem Rand und zentraler Abheilung.",),
        },
        dermoscopy={"en": (), "de": ()},
        plan={
            "en": ("Terbinafine cream once daily for 2 weeks", "Mycological culture"),
            "de": ("Terbinafin Creme 1x täglich für 2 Wochen", "Mykologische Kultur"),
        },
        sizes=(15, 70),
    ),
    SkinDisease(
        code="D23.9",
        name={"en": "Dermatofibroma", "de": "Dermatofibrom"},
        looks={
            "en": ("Firm brown nodule that dimples when pinched.",),
            "de": ("Derber brauner Knoten mit positivem Grübchenzeichen.",),
        },
        dermoscopy={
            "en": ("Central white patch with peripheral network.",),
            "de": ("Zentrales weißes Areal mit peripherem Netz.",),
        },
        plan={
            "en": ("No treatment needed", "Excision on request"),
            "de": ("Keine Therapie erforderlich", "Exzision auf Wunsch"),
        },
        sizes=(4, 12),
    ),
    SkinDisease(
        code="L71.9",
        name={"en": "Rosacea", "de": "Rosazea"},
        looks={
            "en": ("Central facial erythema with papules and telangiectasia.",),
            "de": ("Zentrofaziales Erythem mit Papeln und Teleangiektasien.",),
        },
        dermoscopy={"en": ("Polygonal vessels.",), "de": ("Polygonale Gefäße.",)},
        plan={
            "en": ("Ivermectin cream once daily", "Daily sun protection", "Avoid alcohol and hot drinks"),
            "de": ("Ivermectin Creme 1x täglich", "Täglicher Sonnenschutz", "Alkohol und heiße Getränke meiden"),
        },
    ),
)
COMPLAINTS = {
    "en": (
        "Changing lesion.",
        "New lesion noticed by the partner.",
        "Itching.",
        "Skin cancer screening.",
        "Bleeding after shaving.",
    ),
    "de": (
        "Veränderte Hautstelle.",
        "Neue Hautveränderung, vom Partner bemerkt.",
        "Juckreiz.",
        "Hautkrebsvorsorge.",
        "Blutung nach Rasur.",
    ),
}
