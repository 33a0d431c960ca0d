"""Tumours for pathology reports: where, what, how it is staged, in English and German.

`limits` are the greatest sizes in mm of pT1, pT2, ... where size stages the tumour; without them depth does, and
`depths` says for each stage how far the tumour grows. `needs` is the sex.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tumour:
    """A tumour of an organ, as a resection specimen shows it."""

    specimens: dict[str, tuple[str, ...]]
    name: dict[str, str]
    pattern: dict[str, tuple[str, ...]]
    limits: tuple[int, ...] = ()
    depths: dict[str, tuple[str, ...]] | None = None
    num_nodes: tuple[int, int] = (0, 0)
    nodal_steps: tuple[int, ...] = (1, 4, 10)  # positive nodes from which on it is pN1, pN2, pN3
    has_side: bool = False
    graded: bool = True
    needs: str = ""


TUMOURS = (
    Tumour(
        specimens={
            "en": ("{Side} breast, wide local excision", "{Side} mastectomy"),
            "de": ("Mamma {side}, Segmentresektat", "Ablatio mammae {side}"),
        },
        name={"en": "Invasive carcinoma of no special type", "de": "Invasives Karzinom vom nicht-speziellen Typ (NST)"},
        pattern={
            "en": (
                "cords and nests of atypical ductal cells in desmoplastic stroma",
                "solid nests with little gland formation",
            ),
            "de": (
                "Stränge und Nester atypischer duktaler Zellen in desmoplastischem Stroma",
                "solide Nester mit geringer Drüsenbildung",
            ),
        },
        limits=(20, 50),
        num_nodes=(1, 18),
        has_side=True,
        needs="female",
    ),
    Tumour(
        specimens={
            "en": ("{Side} breast, segmental resection", "{Side} breast lumpectomy"),
            "de": ("Mamma {side}, Exzisat", "Mamma {side}, Segment"),
        },
        name={"en": "Invasive lobular carcinoma", "de": "Invasives lobuläres Karzinom"},
        pattern={"en": ("discohesive cells in single files",), "de": ("dissoziierte Zellen in Gänsemarschanordnung",)},
        limits=(20, 50),
        num_nodes=(1, 15),
        has_side=True,
        needs="female",
    ),
    Tumour(
        specimens={
            "en": ("Sigmoid colon resection", "Right hemicolectomy", "Left hemicolectomy"),
            "de": ("Sigmaresektat", "Hemikolektomie rechts", "Hemikolektomie links"),
        },
        name={"en": "Adenocarcinoma of the colon", "de": "Adenokarzinom des Kolons"},
        pattern={
            "en": ("atypical glands with dirty necrosis", "cribriform glands"),
            "de": ("atypische Drüsen mit schmutziger Nekrose", "kribriforme Drüsen"),
        },
        depths={
            "en": (
                "invades the submucosa",
                "invades the muscularis propria",
                "invades the pericolic fat",
                "perforates the visceral peritoneum",
            ),
            "de": (
                "infiltriert die Submukosa",
                "infiltriert die Muscularis propria",
                "infiltriert das perikolische Fettgewebe",
                "durchbricht das viszerale Peritoneum",
            ),
        },
        num_nodes=(12, 32),
        nodal_steps=(1, 4),
    ),
    Tumour(
        specimens={
            "en": ("Distal gastrectomy", "Total gastrectomy"),
            "de": ("Distales Magenresektat", "Gastrektomie-Präparat"),
        },
        name={"en": "Adenocarcinoma of the stomach", "de": "Adenokarzinom des Magens"},
        pattern={"en": ("tubular glands of intestinal type",), "de": ("tubuläre Drüsen vom intestinalen Typ",)},
        depths={
            "en": (
                "invades the submucosa",
                "invades the muscularis propria",
                "invades the subserosa",
                "perforates the serosa",
            ),
            "de": (
                "infiltriert die Submukosa",
                "infiltriert die Muscularis propria",
                "infiltriert die Subserosa",
                "durchbricht die Serosa",
            ),
        },
        num_nodes=(16, 35),
        nodal_steps=(1, 3, 7),
    ),
    Tumour(
        specimens={
            "en": ("{Side} upper lobectomy", "{Side} lower lobectomy"),
            "de": ("Oberlappenresektat {side}", "Unterlappenresektat {side}"),
        },
        name={"en": "Adenocarcinoma of the lung", "de": "Adenokarzinom der Lunge"},
        pattern={"en": ("acinar and lepidic growth",), "de": ("azinäres und lepidisches Wachstum",)},
        limits=(30, 50, 70),
        num_nodes=(6, 20),
        nodal_steps=(1,),
        has_side=True,
    ),
    Tumour(
        specimens={
            "en": ("{Side} radical nephrectomy", "{Side} partial nephrectomy"),
            "de": ("Nephrektomie {side}", "Nierenteilresektat {side}"),
        },
        name={"en": "Clear cell renal cell carcinoma", "de": "Klarzelliges Nierenzellkarzinom"},
        pattern={
            "en": ("nests of clear cells with a delicate capillary network",),
            "de": ("Nester klarer Zellen mit zartem Kapillarnetz",),
        },
        limits=(70,),
        has_side=True,
    ),
    Tumour(
        specimens={
            "en": ("{Side} hemithyroidectomy", "{Side} thyroid lobectomy"),
            "de": ("Hemithyreoidektomie {side}", "Schilddrüsenlappen {side}"),
        },
        name={"en": "Papillary thyroid carcinoma", "de": "Papilläres Schilddrüsenkarzinom"},
        pattern={
            "en": ("papillae with grooved, optically clear nuclei",),
            "de": ("Papillen mit gekerbten Milchglaskernen",),
        },
        limits=(20, 40),
        num_nodes=(1, 8),
        nodal_steps=(1,),
        has_side=True,
        graded=False,
    ),
)
# Benign biopsies: specimen, microscopy, diagnosis.
BENIGN = (
    (
        {
            "en": (
                "Gastric antrum biopsy",
                "Mild chronic inflammation without Helicobacter or atypia.",
                "Mild chronic gastritis, Helicobacter negative.",
            ),
            "de": (
                "Magenbiopsie Antrum",
                "Geringe chronische Entzündung ohne Helicobacter, keine Atypien.",
                "Geringe chronische Gastritis, Helicobacter negativ.",
            ),
        }
    ),
    (
        {
            "en": (
                "Gastric corpus biopsy",
                "Active inflammation with curved rods on the surface.",
                "Active Helicobacter gastritis.",
            ),
            "de": (
                "Magenbiopsie Korpus",
                "Floride Entzündung mit gekrümmten Stäbchen auf der Oberfläche.",
                "Floride Helicobacter-Gastritis.",
            ),
        }
    ),
    (
        {
            "en": (
                "Colonic polyp",
                "Tubular glands with low-grade dysplasia.",
                "Tubular adenoma with low-grade dysplasia.",
            ),
            "de": (
                "Kolonpolyp",
                "Tubuläre Drüsen mit niedriggradiger Dysplasie.",
                "Tubuläres Adenom mit niedriggradiger Dysplasie.",
            ),
        }
    ),
    (
        {
            "en": (
                "Gallbladder",
                "Fibrosed wall with chronic inflammation; no malignancy.",
                "Chronic cholecystitis with stones.",
            ),
            "de": (
                "Gallenblase",
                "Fibrosierte Wand mit chronischer Entzündung; keine Malignität.",
                "Chronische Cholezystitis mit Steinen.",
            ),
        }
    ),
    (
        {
            "en": (
                "Skin excision, back",
                "Symmetrical nests of naevus cells maturing with depth.",
                "Compound melanocytic naevus, excised.",
            ),
            "de": (
                "Hautexzisat Rücken",
                "Symmetrische Nester ausreifender Nävuszellen.",
                "Melanozytärer Compoundnävus, im Gesunden entfernt.",
            ),
        }
    ),
)
