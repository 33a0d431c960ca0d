"""Diagnoses with their ICD-10 codes, in English and German, and whom they befall.

A line is `key | ICD-10 | English | German | ages | sex`.
"""

from dataclasses import dataclass

_TABLE = """
hypertension | I10 | Essential hypertension; Arterial hypertension; High blood pressure | Arterielle Hypertonie; Essentielle Hypertonie | 40-90 |
heart_failure | I50.9 | Heart failure; Congestive heart failure | Herzinsuffizienz; Chronische Herzinsuffizienz | 60-90 |
fibrillation | I48.9 | Atrial fibrillation | Vorhofflimmern | 60-90 |
angina | I20.9 | Angina pectoris; Stable angina | Angina pectoris | 50-85 |
infarction | I21.9 | Acute myocardial infarction | Akuter Myokardinfarkt | 45-88 |
stroke | I63.9 | Cerebral infarction; Ischaemic stroke | Hirninfarkt; Ischämischer Schlaganfall | 55-90 |
embolism | I26.9 | Pulmonary embolism | Lungenembolie | 30-88 |
dyslipidaemia | E78.5 | Hyperlipidaemia; Dyslipidaemia | Hyperlipidämie; Dyslipidämie | 40-85 |
diabetes | E11.9 | Type 2 diabetes mellitus | Diabetes mellitus Typ 2 | 40-88 |
hypothyroidism | E03.9 | Hypothyroidism | Hypothyreose | 25-85 |
hyperthyroidism | E05.9 | Hyperthyroidism; Thyrotoxicosis | Hyperthyreose | 20-75 |
gout | M10.9 | Gout; Acute gout | Gicht; Akuter Gichtanfall | 40-85 |
osteoarthritis | M19.9 | Osteoarthritis | Arthrose | 50-90 |
rheumatoid | M06.9 | Rheumatoid arthritis | Rheumatoide Arthritis | 30-80 |
osteoporosis | M81.9 | Osteoporosis | Osteoporose | 60-90 |
back_pain | M54.5 | Low back pain; Lumbago | Kreuzschmerz; Lumbago | 20-80 |
asthma | J45.9 | Asthma; Bronchial asthma | Asthma bronchiale | 18-70 |
copd | J44.9 | COPD; Chronic obstructive pulmonary disease | COPD; Chronisch obstruktive Lungenkrankheit | 50-88 |
pneumonia | J18.9 | Pneumonia; Community-acquired pneumonia | Pneumonie; Ambulant erworbene Pneumonie | 18-90 |
bronchitis | J20.9 | Acute bronchitis | Akute Bronchitis | 18-85 |
influenza | J11.1 | Influenza | Influenza | 18-85 |
tonsillitis | J03.9 | Acute tonsillitis | Akute Tonsillitis | 18-50 |
otitis | H66.9 | Otitis media | Otitis media | 18-60 |
sinusitis | J01.9 | Acute sinusitis | Akute Sinusitis | 18-70 |
rhinitis | J30.4 | Allergic rhinitis | Allergische Rhinitis | 18-60 |
reflux | K21.9 | Gastro-oesophageal reflux disease; Reflux disease | Gastroösophageale Refluxkrankheit; Refluxkrankheit | 25-85 |
ulcer | K25.9 | Gastric ulcer | Ulcus ventriculi | 35-85 |
gastroenteritis | A09.9 | Acute gastroenteritis | Akute Gastroenteritis | 18-85 |
diverticulitis | K57.3 | Diverticular disease of large intestine; Diverticulitis | Divertikulitis; Divertikelkrankheit des Dickdarms | 45-85 |
colitis | K51.9 | Ulcerative colitis | Colitis ulcerosa | 20-70 |
constipation | K59.0 | Constipation | Obstipation | 30-90 |
cirrhosis | K74.6 | Cirrhosis of liver | Leberzirrhose | 45-80 |
cholecystitis | K81.0 | Acute cholecystitis | Akute Cholezystitis | 30-85 |
appendicitis | K35.8 | Acute appendicitis | Akute Appendizitis | 18-60 |
cystitis | N30.0 | Acute cystitis | Akute Zystitis | 18-85 | female
pyelonephritis | N10 | Acute pyelonephritis | Akute Pyelonephritis | 18-85 |
kidney_disease | N18.3 | Chronic kidney disease, stage 3 | Chronische Nierenkrankheit, Stadium 3 | 55-90 |
prostate | N40 | Benign prostatic hyperplasia | Benigne Prostatahyperplasie | 55-90 | male
bladder | N32.8 | Overactive bladder | Überaktive Blase | 45-88 |
menopause | N95.1 | Menopausal symptoms | Klimakterisches Syndrom | 46-60 | female
candidiasis | B37.3 | Vulvovaginal candidiasis | Vulvovaginale Kandidose | 18-60 | female
depression | F32.9 | Depressive episode | Depressive Episode | 18-85 |
anxiety | F41.9 | Anxiety disorder | Angststörung | 18-75 |
insomnia | G47.0 | Insomnia | Insomnie; Schlafstörung | 25-85 |
dementia | F03 | Dementia | Demenz | 70-90 |
parkinson | G20 | Parkinson disease | Parkinson-Syndrom | 60-88 |
epilepsy | G40.9 | Epilepsy | Epilepsie | 18-80 |
migraine | G43.9 | Migraine | Migräne | 18-60 |
eczema | L30.9 | Eczema; Dermatitis | Ekzem; Dermatitis | 18-80 |
psoriasis | L40.0 | Psoriasis vulgaris; Plaque psoriasis | Psoriasis vulgaris | 20-75 |
acne | L70.0 | Acne vulgaris | Akne vulgaris | 18-35 |
tinea | B35.3 | Tinea pedis | Tinea pedis | 18-80 |
zoster | B02.9 | Herpes zoster; Shingles | Herpes zoster | 40-88 |
urticaria | L50.9 | Urticaria | Urtikaria | 18-65 |
cellulitis | L03.1 | Cellulitis of limb; Cellulitis | Phlegmone an Extremitäten | 25-88 |
iron_deficiency | D50.9 | Iron deficiency anaemia | Eisenmangelanämie | 18-85 |
b12_deficiency | D51.9 | Vitamin B12 deficiency anaemia | Vitamin-B12-Mangelanämie | 40-88 |
vitamin_d | E55.9 | Vitamin D deficiency | Vitamin-D-Mangel | 18-88 |
glaucoma | H40.9 | Glaucoma | Glaukom | 50-88 |
conjunctivitis | H10.9 | Conjunctivitis | Konjunktivitis | 18-80 |
hip_fracture | S72.0 | Fracture of neck of femur | Schenkelhalsfraktur | 65-90 |
"""  # noqa: E501 (a table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A disease with its ICD-10 code (WHO version, the digits that all national versions share)."""

    key: str
    code: str
    names: dict[str, tuple[str, ...]]
    ages: tuple[int, int]
    sex: str


def _diagnosis(line: str) -> Diagnosis:
    key, code, english, german, ages, sex = (part.strip() for part in line.split("|"))
    names = {
        "en": tuple(part.strip() for part in english.split(";")),
        "de": tuple(part.strip() for part in german.split(";")),
    }
    youngest, _, oldest = ages.partition("-")
    return Diagnosis(key=key, code=code, names=names, ages=(int(youngest), int(oldest)), sex=sex)


DIAGNOSES = {diagnosis.key: diagnosis for diagnosis in map(_diagnosis, _TABLE.strip().splitlines())}
