"""The closed lists of words that synthetic slips print, each split into seen, later and never-seen parts."""

import random
import re


def _words(text: str) -> list[str]:
    return text.split()


FIRST_NAMES = _words(
    """
    Ana Bruno Carla David Elena Felix Greta Hugo Irene Jonas Klara Lucas Marta Nils Olga Pavel Rosa Simon Tereza Viktor
    Wanda Yusuf Zoe Amir Bella Cyril Diana Emil Fatima Goran Hanna Ivan Julia Karim Lena Milan Nadia Oscar Petra Quentin
    Rita Samir Tanja Ugo Vera Walter Xenia Yara Zoran Alma Boris Celia Dario Edith Frida Gustav Heidi Ilse Jakub Katja
    Leon Mina Nora Otto
    """
)
LAST_NAMES = _words(
    """
    Silva Novak Costa Meyer Rossi Kovacs Lopez Weber Dubois Larsen Petrov Santos Fischer Moreau Jansen Horvat Ricci
    Keller Bauer Nowak Ferrari Olsen Vargas Schmid Lambert Popov Duarte Lindner Marino Berg Castro Huber Vidal Kraus
    Greco Wagner Blanc Ortiz Svoboda Winter Fabbri Pires Zeman Haas Conti Reyes Busch Morel Dahl Vega Kunz Farkas Romero
    Lang Baptist Quiroz Yilmaz Frank Gallo Ivanov Hahn Ramos Tomas Ekberg Wolf Navarro Simic Jung
    """
)
DRUGS = _words(
    """
    Amoxicillin Ibuprofen Metformin Ramipril Atenolol Warfarin Digoxin Cetirizine Omeprazole Diazepam Codeine Fluoxetine
    Gabapentin Lithium Naproxen Prednisone Sertraline Tramadol Verapamil Zolpidem Aspirin Bisoprolol Captopril
    Doxycycline Enalapril Furosemide Glipizide Heparin Isoniazid Ketoprofen Losartan Morphine Nifedipine Oxycodone
    Paracetamol Quinine Ranitidine Simvastatin Timolol Valsartan Xylitol Allopurinol Baclofen Cefalexin Clonidine
    Dapsone Estradiol Folate Haloperidol Lorazepam
    """
)
DIAGNOSES = _words(
    """
    Asthma Migraine Gastritis Influenza Anemia Arthritis Bronchitis Cystitis Dermatitis Eczema Fracture Gout Hernia
    Insomnia Jaundice Lumbago Measles Nephritis Otitis Pneumonia Rhinitis Sinusitis Tonsillitis Urticaria Vertigo Angina
    Burn Cataract Diabetes Epilepsy Fever Glaucoma Hepatitis Hypertension Laryngitis Malaria Neuralgia Obesity Psoriasis
    Sciatica
    """
)
VACCINES = _words(
    """
    Tetavax Polivac Hepabel Rubifen Measvac Influx Pneumor Rotagen Typhinol Varivel Zostrix Meningal Pertuvax Diftavel
    Rabisan Cholerix Yellovac Covigen Japenca Encevir
    """
)
# Units of the test's result, so that a test is printed with units that occur.
TESTS = {
    "Glucose": "mmol/L",
    "Sodium": "mmol/L",
    "Potassium": "mmol/L",
    "Urea": "mmol/L",
    "Calcium": "mmol/L",
    "Lactate": "mmol/L",
    "Creatinine": "mg/dL",
    "Bilirubin": "mg/dL",
    "Uric acid": "mg/dL",
    "Phosphate": "mg/dL",
    "Cholesterol": "mg/dL",
    "Hemoglobin": "g/dL",
    "Albumin": "g/L",
    "Protein": "g/L",
    "Ferritin": "ng/mL",
    "Troponin": "ng/mL",
    "Insulin": "U/L",
    "Lipase": "U/L",
    "Amylase": "U/L",
    "Ketones": "mmol/L",
}
FREQUENCIES = (
    "once daily",
    "twice daily",
    "at night",
    "as needed",
    "every 8 hours",
    "every 6 hours",
    "every 12 hours",
    "with meals",
    "3 times a day",
    "weekly",
)

SEEN, LATER, NEVER = "seen", "later", "never"
_SHARES = ((SEEN, 0.5), (LATER, 0.2))  # the rest is never seen


class WordList:
    """A closed list. `seen` words are in pre-training, `later` ones from RL training on, `never` ones only in tests."""

    def __init__(self, name: str, words: list[str]) -> None:
        shuffled = random.Random(f"split of {name}").sample(words, len(words))
        self.parts: dict[str, tuple[str, ...]] = {}
        start = 0
        for part, share in _SHARES:
            end = start + round(share * len(words))
            self.parts[part] = tuple(shuffled[start:end])
            start = end
        self.parts[NEVER] = tuple(shuffled[start:])


WORD_LISTS = {
    "first": WordList("first", FIRST_NAMES),
    "last": WordList("last", LAST_NAMES),
    "drug": WordList("drug", DRUGS),
    "diagnosis": WordList("diagnosis", DIAGNOSES),
    "vaccine": WordList("vaccine", VACCINES),
    "test": WordList("test", list(TESTS)),
}
_LISTS_OF_KEY = {
    "patient": ("first", "last"),
    "doctor": ("first", "last"),
    "drug": ("drug",),
    "diagnosis": ("diagnosis",),
    "vaccine": ("vaccine",),
    "test": ("test",),
}
CLOSED_KEYS = tuple(_LISTS_OF_KEY)

_CONSONANTS = "bcdfghjklmnpqrstvwxz"
_ENDINGS = ("", "", "", "n", "r", "s", "l", "x", "m", "t", "b", "st", "nd")


def is_never_seen(key: str, value: str) -> bool:
    """Whether the value of a closed-list key holds a word that neither pre-training nor RL training shows."""
    names = _LISTS_OF_KEY.get(key, ())
    words = re.findall(r"\w+", value) if len(names) > 1 else [value]
    return any(word in WORD_LISTS[name].parts[NEVER] for name in names for word in words)


def pseudo_word(rng: random.Random) -> str:
    """A made-up capitalised word of two to four syllables: reading it cannot be replaced by knowing a list."""
    syllables = [
        rng.choice(_CONSONANTS) * (rng.random() < 0.9) + rng.choice("aeiouy") + rng.choice(_ENDINGS)
        for _ in range(rng.choice((2, 2, 3, 3, 4)))
    ]
    return "".join(syllables)[:11].capitalize()
