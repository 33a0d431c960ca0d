"""Clauses of imaging reports, in English and German.

An examination is a list of organs; each organ has sentences for the normal case and pairs of a finding and its
conclusion. `{side}` is a side, `{size}` the size of the one measured lesion, `{n}` a count. The pairs of both languages
stand in the same order.
"""

from dataclasses import dataclass

Texts = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Organ:
    """What may be said about an organ. `abnormal` holds (finding, conclusion) by language."""

    normal: Texts
    abnormal: dict[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """A sort of examination. `contrast` says whether agent is never, always or sometimes given."""

    names: Texts
    indications: Texts
    techniques: Texts
    organs: tuple[Organ, ...]
    clear: Texts  # the conclusion where nothing is found
    has_side: bool = False
    contrast: str = "never"


def _organ(
    en: tuple[str, ...],
    de: tuple[str, ...],
    found_en: tuple[tuple[str, str], ...],
    found_de: tuple[tuple[str, str], ...],
) -> Organ:
    return Organ(normal={"en": en, "de": de}, abnormal={"en": found_en, "de": found_de})


_LUNGS = _organ(
    ("The lungs are clear.", "No focal consolidation.", "Lungs are clear without infiltrate."),
    ("Die Lungen sind frei belüftet.", "Kein Infiltrat.", "Kein Nachweis umschriebener Verschattungen."),
    (
        ("Patchy airspace opacity in the {side} lower lobe.", "{Side} lower lobe pneumonia."),
        ("A {size} nodule in the {side} upper lobe.", "{Side} upper lobe nodule; follow-up recommended."),
        ("Linear opacity at the {side} base.", "Subsegmental atelectasis at the {side} base."),
        ("Hyperinflated lungs with flattened diaphragms.", "Emphysema."),
        ("Diffuse interstitial markings with septal lines.", "Interstitial pulmonary oedema."),
    ),
    (
        ("Fleckige Verschattung im Unterlappen {side}.", "Pneumonie im Unterlappen {side}."),
        ("Rundherd von {size} im Oberlappen {side}.", "Rundherd im Oberlappen {side}; Kontrolle empfohlen."),
        ("Streifige Verdichtung basal {side}.", "Dystelektase basal {side}."),
        ("Überblähte Lungen mit abgeflachten Zwerchfellen.", "Lungenemphysem."),
        ("Diffus vermehrte interstitielle Zeichnung mit Septumlinien.", "Interstitielles Lungenödem."),
    ),
)
_PLEURA = _organ(
    ("No pleural effusion or pneumothorax.", "The pleural spaces are free."),
    ("Kein Pleuraerguss, kein Pneumothorax.", "Pleuraraum frei."),
    (
        ("Small {side} pleural effusion.", "Small {side} pleural effusion."),
        ("Moderate pleural effusion on the {side}.", "Moderate {side} pleural effusion."),
        ("Small apical pneumothorax on the {side}.", "Small {side} apical pneumothorax."),
    ),
    (
        ("Kleiner Pleuraerguss {side}.", "Kleiner Pleuraerguss {side}."),
        ("Mäßiger Erguss im Pleuraraum {side}.", "Mäßiger Pleuraerguss {side}."),
        ("Schmaler apikaler Pneumothorax {side}.", "Schmaler Pneumothorax {side} apikal."),
    ),
)
_HEART = _organ(
    ("Heart size is normal.", "The cardiomediastinal silhouette is within normal limits."),
    ("Herz normal groß.", "Herz und Mediastinum regelrecht konfiguriert."),
    (
        ("The heart is enlarged.", "Cardiomegaly."),
        ("Tortuous aorta with calcified arch.", "Aortic atherosclerosis."),
    ),
    (("Herz verbreitert.", "Kardiomegalie."), ("Elongierte Aorta mit Kalk im Bogen.", "Aortensklerose.")),
)
_BONES = _organ(
    ("No acute osseous abnormality.", "Visualised bones are intact."),
    ("Keine frische knöcherne Verletzung.", "Abgebildetes Skelett altersentsprechend."),
    (
        ("Healed fracture of the {side} seventh rib.", "Old {side} rib fracture."),
        ("Degenerative changes of the thoracic spine.", "Degenerative spine disease."),
    ),
    (
        ("Konsolidierte Fraktur der 7. Rippe {side}.", "Alte Rippenfraktur {side}."),
        ("Degenerative Veränderungen der BWS.", "Degenerative Wirbelsäulenveränderungen."),
    ),
)
_LIVER = _organ(
    ("The liver is normal in size and without focal lesion.", "Liver unremarkable."),
    ("Leber normal groß, ohne fokale Läsion.", "Leber unauffällig."),
    (
        ("A {size} simple cyst in the {side} lobe of the liver.", "Simple hepatic cyst."),
        ("The liver is enlarged and shows diffuse fatty change.", "Hepatic steatosis."),
        ("A {size} hypervascular lesion in the {side} hepatic lobe.", "Indeterminate liver lesion; MR recommended."),
    ),
    (
        ("Blande Zyste von {size} im Leberlappen {side}.", "Blande Leberzyste."),
        ("Leber vergrößert, diffus verfettet.", "Steatosis hepatis."),
        ("Hypervaskularisierte Läsion von {size} im Leberlappen {side}.", "Unklare Leberläsion; MRT empfohlen."),
    ),
)
_GALLBLADDER = _organ(
    ("The gallbladder contains no stones.", "No biliary dilatation."),
    ("Gallenblase steinfrei.", "Gallenwege nicht erweitert."),
    (
        ("{n} gallstones without wall thickening.", "Cholelithiasis without cholecystitis."),
        ("Gallbladder wall thickened, with stones and fluid around it.", "Acute cholecystitis."),
    ),
    (
        ("{n} Gallensteine ohne Wandverdickung.", "Cholezystolithiasis ohne Cholezystitis."),
        ("Gallenblasenwand verdickt, Steine und pericholezystische Flüssigkeit.", "Akute Cholezystitis."),
    ),
)
_KIDNEYS = _organ(
    ("Both kidneys are normal without hydronephrosis.", "No renal calculus."),
    ("Nieren beidseits normal, kein Harnstau.", "Keine Nierensteine."),
    (
        ("A {size} calculus in the {side} proximal ureter with hydronephrosis.", "Obstructing {side} ureteral stone."),
        ("A {size} cortical cyst of the {side} kidney.", "Simple {side} renal cyst."),
    ),
    (
        ("Konkrement von {size} im proximalen Ureter {side} mit Harnstau.", "Obstruierender Ureterstein {side}."),
        ("Kortikale Zyste von {size} der Niere {side}.", "Blande Nierenzyste {side}."),
    ),
)
_SPLEEN = _organ(
    ("Spleen and pancreas are unremarkable.", "No free fluid.", "Normal spleen."),
    ("Milz und Pankreas unauffällig.", "Keine freie Flüssigkeit.", "Milz normal groß."),
    (("The spleen is enlarged.", "Splenomegaly."), ("Small amount of free fluid in the pelvis.", "Free pelvic fluid.")),
    (("Milz vergrößert.", "Splenomegalie."), ("Wenig freie Flüssigkeit im Becken.", "Freie Flüssigkeit im Becken.")),
)
_BRAIN = (
    _organ(
        ("No restricted diffusion.", "No acute infarct."),
        ("Keine Diffusionsstörung.", "Kein Nachweis einer frischen Ischämie."),
        (
            ("Restricted diffusion in the {side} middle cerebral artery territory.", "Acute {side} MCA infarct."),
            ("A lacunar focus of restricted diffusion in the {side} thalamus.", "Acute {side} thalamic infarct."),
        ),
        (
            ("Diffusionsstörung im Mediastromgebiet {side}.", "Frischer Mediainfarkt {side}."),
            ("Lakunäre Diffusionsstörung im Thalamus {side}.", "Frischer Thalamusinfarkt {side}."),
        ),
    ),
    _organ(
        ("No mass or midline shift.", "No space-occupying lesion."),
        ("Keine Raumforderung, keine Mittellinienverlagerung.", "Kein raumfordernder Prozess."),
        (("A {size} extra-axial mass over the {side} convexity.", "{Side} convexity meningioma."),),
        (("Extraaxiale Raumforderung von {size} über der Konvexität {side}.", "Konvexitätsmeningeom {side}."),),
    ),
    _organ(
        ("White matter is unremarkable.", "Ventricles and sulci are normal for age."),
        ("Marklager unauffällig.", "Innere und äußere Liquorräume altersentsprechend."),
        (
            ("Scattered T2 hyperintense white matter foci.", "Chronic small vessel disease."),
            ("Generalised widening of sulci and ventricles.", "Cerebral atrophy."),
        ),
        (
            ("Fleckige T2-Hyperintensitäten im Marklager.", "Mikroangiopathie."),
            ("Generalisierte Erweiterung der Liquorräume.", "Hirnatrophie."),
        ),
    ),
)
_KNEE = (
    _organ(
        ("The menisci are intact.", "No meniscal tear."),
        ("Menisken intakt.", "Kein Meniskusriss."),
        (
            ("Horizontal tear of the posterior horn of the medial meniscus.", "Medial meniscal tear."),
            ("Radial tear of the lateral meniscus.", "Lateral meniscal tear."),
        ),
        (
            ("Horizontaler Riss im Hinterhorn des Innenmeniskus.", "Innenmeniskusriss."),
            ("Radiärer Riss des Außenmeniskus.", "Außenmeniskusriss."),
        ),
    ),
    _organ(
        ("Cruciate and collateral ligaments are intact.", "The ligaments are continuous."),
        ("Kreuz- und Seitenbänder intakt.", "Bandapparat durchgängig abgrenzbar."),
        (("Complete tear of the anterior cruciate ligament.", "Anterior cruciate ligament rupture."),),
        (("Komplette Ruptur des vorderen Kreuzbandes.", "Vordere Kreuzbandruptur."),),
    ),
    _organ(
        ("No joint effusion.", "Normal cartilage."),
        ("Kein Gelenkerguss.", "Knorpel regelrecht."),
        (
            ("Popliteal cyst measuring {size}.", "Baker cyst."),
            ("Moderate joint effusion and full-thickness cartilage loss.", "Osteoarthritis with effusion."),
        ),
        (
            ("Poplitealzyste von {size}.", "Baker-Zyste."),
            ("Mäßiger Gelenkerguss und Knorpelglatze.", "Arthrose mit Erguss."),
        ),
    ),
)
_WRIST = (
    _organ(
        ("No fracture line is seen.", "Cortices are intact."),
        ("Keine Frakturlinie.", "Kortikalis intakt."),
        (
            ("Transverse fracture of the distal radius with dorsal angulation.", "Distal radius fracture."),
            ("Undisplaced fracture through the waist of the scaphoid.", "Scaphoid fracture."),
        ),
        (
            ("Querfraktur des distalen Radius mit dorsaler Abkippung.", "Distale Radiusfraktur."),
            ("Nicht dislozierte Fraktur im mittleren Drittel des Skaphoids.", "Skaphoidfraktur."),
        ),
    ),
    _organ(
        ("Joint spaces are preserved.", "Alignment is normal."),
        ("Gelenkspalten erhalten.", "Regelrechte Stellung."),
        (("Narrowing and sclerosis of the first carpometacarpal joint.", "Thumb base osteoarthritis."),),
        (("Verschmälerung und Sklerose des Daumensattelgelenks.", "Rhizarthrose."),),
    ),
)
_THYROID = (
    _organ(
        ("Thyroid of normal size and echotexture.", "Homogeneous thyroid parenchyma."),
        ("Schilddrüse normal groß, homogen.", "Regelrechtes Echomuster der Schilddrüse."),
        (("Diffusely heterogeneous, hypoechoic thyroid.", "Features of autoimmune thyroiditis."),),
        (("Diffus inhomogene, echoarme Schilddrüse.", "Bild einer Autoimmunthyreoiditis."),),
    ),
    _organ(
        ("No thyroid nodule.", "No focal lesion in either lobe."),
        ("Keine Knoten.", "Kein Herdbefund in beiden Lappen."),
        (
            ("A {size} isoechoic nodule in the {side} lobe, TI-RADS 3.", "{Side} thyroid nodule, TI-RADS 3."),
            (
                "A {size} hypoechoic nodule in the {side} lobe, TI-RADS 4.",
                "{Side} TI-RADS 4 nodule; aspiration advised.",
            ),
        ),
        (
            ("Isoechogener Knoten von {size} im Lappen {side}, TI-RADS 3.", "Knoten {side}, TI-RADS 3."),
            (
                "Echoarmer Knoten von {size} im Lappen {side}, TI-RADS 4.",
                "Knoten {side}, TI-RADS 4; Punktion empfohlen.",
            ),
        ),
    ),
    _organ(
        ("No enlarged cervical lymph nodes.", "Cervical nodes unremarkable."),
        ("Keine vergrößerten Halslymphknoten.", "Halslymphknoten unauffällig."),
        (("Several reactive-appearing nodes on the {side}.", "Reactive {side} cervical nodes."),),
        (("Mehrere reaktiv wirkende Lymphknoten {side}.", "Reaktive Halslymphknoten {side}."),),
    ),
)
_ABDOMEN = (_LIVER, _GALLBLADDER, _KIDNEYS, _SPLEEN)
_CHEST = (_LUNGS, _PLEURA, _HEART, _BONES)
_ABDOMINAL_PAIN: Texts = {
    "en": ("Abdominal pain.", "Raised liver enzymes.", "Right upper quadrant pain.", "Flank pain, haematuria."),
    "de": ("Abdominelle Schmerzen.", "Erhöhte Leberwerte.", "Oberbauchschmerz rechts.", "Flankenschmerz, Hämaturie."),
}
_CHEST_COMPLAINTS: Texts = {
    "en": ("Cough and fever.", "Shortness of breath.", "Chest pain.", "Preoperative assessment.", "Persistent cough."),
    "de": ("Husten und Fieber.", "Luftnot.", "Thoraxschmerz.", "Präoperative Abklärung.", "Anhaltender Husten."),
}
CHEST_XRAY = Exam(
    names={
        "en": ("Chest X-ray, PA and lateral", "XR chest 2 views", "Chest radiograph AP", "Chest, PA view"),
        "de": ("Röntgen Thorax in 2 Ebenen", "Rö-Thorax p.a.", "Thoraxaufnahme a.p. im Liegen"),
    },
    indications=_CHEST_COMPLAINTS,
    techniques={"en": ("Standing views.",), "de": ("Aufnahmen im Stehen.",)},
    organs=_CHEST,
    clear={
        "en": ("No acute cardiopulmonary abnormality.", "Normal chest radiograph.", "No acute disease."),
        "de": ("Unauffälliger Thoraxbefund.", "Kein akut pathologischer Befund.", "Kein Hinweis auf Pneumonie."),
    },
)
EXAMS = (
    Exam(
        names={
            "en": ("CT chest", "CT thorax", "Computed tomography of the chest"),
            "de": ("CT Thorax", "Computertomographie Thorax"),
        },
        indications=_CHEST_COMPLAINTS,
        techniques={
            "en": ("Multidetector CT, 1 mm slices.", "Helical acquisition."),
            "de": ("Mehrzeilen-CT, Schichtdicke 1 mm.", "Spiral-CT."),
        },
        organs=_CHEST,
        clear={"en": ("No acute thoracic pathology.",), "de": ("Unauffälliges CT des Thorax.",)},
        contrast="sometimes",
    ),
    Exam(
        names={"en": ("CT abdomen and pelvis", "Abdominal CT"), "de": ("CT Abdomen", "CT Abdomen und Becken")},
        indications=_ABDOMINAL_PAIN,
        techniques={
            "en": ("Acquired in one breath-hold.", "Multidetector CT, 3 mm slices."),
            "de": ("Aufnahme in einem Atemanhalt.", "Mehrzeilen-CT, Schichtdicke 3 mm."),
        },
        organs=_ABDOMEN,
        clear={
            "en": ("No acute abdominal pathology.", "Normal CT of the abdomen."),
            "de": ("Unauffälliges CT des Abdomens.",),
        },
        contrast="sometimes",
    ),
    Exam(
        names={
            "en": ("Ultrasound abdomen", "Abdominal ultrasound"),
            "de": ("Sonographie Abdomen", "Abdomensonographie"),
        },
        indications=_ABDOMINAL_PAIN,
        techniques={"en": ("Curved array transducer.",), "de": ("Konvexschallkopf.",)},
        organs=_ABDOMEN,
        clear={"en": ("Normal abdominal ultrasound.",), "de": ("Unauffällige Abdomensonographie.",)},
    ),
    Exam(
        names={
            "en": ("MRI brain", "MR head", "Magnetic resonance imaging of the brain"),
            "de": ("MRT Schädel", "MRT des Kopfes", "cMRT"),
        },
        indications={
            "en": ("Headache.", "Sudden weakness.", "Memory complaints.", "Dizziness."),
            "de": ("Kopfschmerzen.", "Plötzliche Schwäche.", "Gedächtnisstörung.", "Schwindel."),
        },
        techniques={"en": ("T1, T2, FLAIR and diffusion sequences.",), "de": ("T1, T2, FLAIR und Diffusion.",)},
        organs=_BRAIN,
        clear={
            "en": ("Normal MRI of the brain.", "No acute intracranial abnormality."),
            "de": ("Unauffälliges MRT des Kopfes.",),
        },
        contrast="sometimes",
    ),
    Exam(
        names={"en": ("MRI knee", "MR of the knee"), "de": ("MRT Kniegelenk", "MRT Knie")},
        indications={
            "en": ("Twisting injury.", "Knee pain.", "Locking of the knee."),
            "de": ("Distorsionstrauma.", "Knieschmerzen.", "Blockierung."),
        },
        techniques={
            "en": ("Proton density and T1 sequences in three planes.",),
            "de": ("Protonendichte- und T1-Sequenzen in drei Ebenen.",),
        },
        organs=_KNEE,
        clear={
            "en": ("Normal MRI of the knee.", "No internal derangement."),
            "de": ("Unauffälliges MRT des Kniegelenks.",),
        },
        has_side=True,
    ),
    Exam(
        names={
            "en": ("X-ray wrist, 2 views", "Wrist radiograph"),
            "de": ("Röntgen Handgelenk in 2 Ebenen", "Handgelenk d.p. und seitlich"),
        },
        indications={
            "en": ("Fall on outstretched hand.", "Wrist pain."),
            "de": ("Sturz auf die Hand.", "Handgelenksschmerzen."),
        },
        techniques={"en": ("Two views.",), "de": ("Aufnahmen in zwei Ebenen.",)},
        organs=_WRIST,
        clear={"en": ("No fracture.", "Normal wrist."), "de": ("Kein Frakturnachweis.",)},
        has_side=True,
    ),
    Exam(
        names={
            "en": ("Ultrasound thyroid", "Thyroid ultrasound", "US neck"),
            "de": ("Sonographie Schilddrüse", "Schilddrüsensonographie"),
        },
        indications={
            "en": ("Palpable nodule.", "Raised TSH.", "Neck swelling."),
            "de": ("Tastbarer Knoten.", "TSH erhöht.", "Schwellung am Hals."),
        },
        techniques={"en": ("Linear transducer, 12 MHz.",), "de": ("Linearschallkopf, 12 MHz.",)},
        organs=_THYROID,
        clear={"en": ("Normal thyroid ultrasound.",), "de": ("Unauffällige Schilddrüse.",)},
    ),
)
COMPARISONS: Texts = {
    "en": ("None available.", "Study of {day}.", "Compared with the examination of {day}.", "No prior studies."),
    "de": ("Keine Voraufnahmen.", "Voruntersuchung vom {day}.", "Im Vergleich zur Untersuchung vom {day}."),
}
