"""Generic drugs: form, strengths, how often, how long, and for which diagnoses.

A line is `name | form | strengths | times a day | course | diagnoses | German name where the rule for -e fails |
sex`. The course is c (continuous), a (5 to 10 days), s (3 to 5 days), m (weeks) or p (as needed). Diagnoses are keys of
`words_diagnoses`.
"""

from dataclasses import dataclass

_TABLE = """
amlodipine | tab | 5 mg; 10 mg | 1 | c | hypertension angina
lisinopril | tab | 5 mg; 10 mg; 20 mg | 1 | c | hypertension heart_failure
ramipril | tab | 2.5 mg; 5 mg; 10 mg | 1 2 | c | hypertension heart_failure infarction
enalapril | tab | 5 mg; 10 mg; 20 mg | 1 2 | c | hypertension heart_failure
losartan | tab | 50 mg; 100 mg | 1 | c | hypertension diabetes
valsartan | tab | 80 mg; 160 mg | 1 | c | hypertension heart_failure
candesartan | tab | 8 mg; 16 mg | 1 | c | hypertension heart_failure
hydrochlorothiazide | tab | 12.5 mg; 25 mg | 1 | c | hypertension | Hydrochlorothiazid
indapamide | tab | 1.5 mg | 1 | c | hypertension
bisoprolol | tab | 2.5 mg; 5 mg; 10 mg | 1 | c | hypertension fibrillation heart_failure infarction
metoprolol | tab | 47.5 mg; 95 mg | 1 2 | c | hypertension fibrillation angina infarction
carvedilol | tab | 6.25 mg; 12.5 mg | 2 | c | heart_failure
nebivolol | tab | 5 mg | 1 | c | hypertension
spironolactone | tab | 25 mg; 50 mg | 1 | c | heart_failure cirrhosis
furosemide | tab | 20 mg; 40 mg | 1 2 | c | heart_failure cirrhosis
torasemide | tab | 5 mg; 10 mg | 1 | c | heart_failure
digoxin | tab | 125 µg; 250 µg | 1 | c | fibrillation
apixaban | tab | 2.5 mg; 5 mg | 2 | c | fibrillation embolism
rivaroxaban | tab | 15 mg; 20 mg | 1 | c | fibrillation embolism
dabigatran | cap | 110 mg; 150 mg | 2 | c | fibrillation
warfarin | tab | 2 mg; 5 mg | 1 | c | fibrillation embolism
enoxaparin | inj | 40 mg; 60 mg; 80 mg | 1 2 | a | embolism hip_fracture
aspirin | tab | 75 mg; 100 mg | 1 | c | infarction angina stroke | Acetylsalicylsäure
clopidogrel | tab | 75 mg | 1 | c | infarction stroke
ticagrelor | tab | 90 mg | 2 | c | infarction
nitroglycerin | spray | 0.4 mg | 1 | p | angina | Glyceroltrinitrat
isosorbide mononitrate | tab | 20 mg; 40 mg | 2 | c | angina | Isosorbidmononitrat
ivabradine | tab | 5 mg; 7.5 mg | 2 | c | angina heart_failure
atorvastatin | tab | 10 mg; 20 mg; 40 mg; 80 mg | 1 | c | dyslipidaemia infarction stroke
simvastatin | tab | 20 mg; 40 mg | 1 | c | dyslipidaemia
rosuvastatin | tab | 5 mg; 10 mg; 20 mg | 1 | c | dyslipidaemia infarction
ezetimibe | tab | 10 mg | 1 | c | dyslipidaemia | Ezetimib
fenofibrate | cap | 160 mg; 200 mg | 1 | c | dyslipidaemia
metformin | tab | 500 mg; 850 mg; 1000 mg | 2 3 | c | diabetes
gliclazide | tab | 30 mg; 60 mg | 1 | c | diabetes
glimepiride | tab | 1 mg; 2 mg; 3 mg | 1 | c | diabetes
sitagliptin | tab | 50 mg; 100 mg | 1 | c | diabetes
empagliflozin | tab | 10 mg; 25 mg | 1 | c | diabetes heart_failure
dapagliflozin | tab | 10 mg | 1 | c | diabetes heart_failure kidney_disease
linagliptin | tab | 5 mg | 1 | c | diabetes
levothyroxine | tab | 25 µg; 50 µg; 75 µg; 100 µg; 125 µg | 1 | c | hypothyroidism
carbimazole | tab | 5 mg; 10 mg | 1 2 | c | hyperthyroidism
thiamazole | tab | 5 mg; 10 mg | 1 2 | c | hyperthyroidism
amoxicillin | cap | 500 mg; 750 mg | 3 | a | bronchitis tonsillitis otitis sinusitis
amoxicillin/clavulanic acid | tab | 875/125 mg | 2 | a | pneumonia sinusitis | Amoxicillin/Clavulansäure
phenoxymethylpenicillin | tab | 500 mg | 3 4 | a | tonsillitis
azithromycin | tab | 250 mg; 500 mg | 1 | s | bronchitis pneumonia
clarithromycin | tab | 250 mg; 500 mg | 2 | a | pneumonia sinusitis
doxycycline | cap | 100 mg | 1 2 | a | pneumonia bronchitis acne | Doxycyclin
cefuroxime | tab | 250 mg; 500 mg | 2 | a | otitis sinusitis cystitis
cefalexin | cap | 500 mg | 3 | a | cellulitis
flucloxacillin | cap | 500 mg | 4 | a | cellulitis
clindamycin | cap | 300 mg | 3 | a | cellulitis
ciprofloxacin | tab | 250 mg; 500 mg | 2 | a | pyelonephritis
levofloxacin | tab | 500 mg | 1 | a | pneumonia pyelonephritis
nitrofurantoin | cap | 100 mg | 2 | s | cystitis
pivmecillinam | tab | 400 mg | 3 | s | cystitis
fosfomycin | sachet | 3 g | 1 | o | cystitis
trimethoprim | tab | 200 mg | 2 | s | cystitis
metronidazole | tab | 400 mg; 500 mg | 2 3 | a | diverticulitis
aciclovir | tab | 400 mg; 800 mg | 5 | a | zoster
valaciclovir | tab | 1000 mg | 3 | a | zoster
fluconazole | cap | 150 mg | 1 | o | candidiasis
terbinafine | tab | 250 mg | 1 | m | tinea
paracetamol | tab | 500 mg; 1000 mg | 3 4 | p | back_pain migraine tonsillitis influenza osteoarthritis bronchitis hip_fracture
ibuprofen | tab | 400 mg; 600 mg | 3 | p | back_pain osteoarthritis otitis sinusitis migraine
naproxen | tab | 250 mg; 500 mg | 2 | p | back_pain gout osteoarthritis
diclofenac | tab | 50 mg; 75 mg | 2 | p | back_pain osteoarthritis
etoricoxib | tab | 60 mg; 90 mg | 1 | a | gout osteoarthritis
metamizole | tab | 500 mg | 3 4 | p | back_pain hip_fracture
tramadol | cap | 50 mg; 100 mg | 2 3 | p | back_pain hip_fracture osteoarthritis
tilidine/naloxone | tab | 50/4 mg | 2 | m | osteoarthritis | Tilidin/Naloxon
codeine | tab | 30 mg | 3 | s | bronchitis | Codein
sumatriptan | tab | 50 mg; 100 mg | 1 | p | migraine
rizatriptan | tab | 10 mg | 1 | p | migraine
propranolol | tab | 40 mg | 2 | c | migraine hyperthyroidism
topiramate | tab | 25 mg; 50 mg | 2 | c | migraine epilepsy
colchicine | tab | 0.5 mg | 2 | s | gout | Colchicin
allopurinol | tab | 100 mg; 300 mg | 1 | c | gout
febuxostat | tab | 80 mg | 1 | c | gout
prednisolone | tab | 5 mg; 20 mg | 1 | a | asthma copd gout | Prednisolon
methotrexate | tab | 7.5 mg; 10 mg | w | m | rheumatoid | Methotrexat
folic acid | tab | 5 mg | w | m | rheumatoid | Folsäure
hydroxychloroquine | tab | 200 mg | 1 2 | c | rheumatoid | Hydroxychloroquin
salbutamol | inh | 100 µg | 4 | p | asthma copd
budesonide/formoterol | inh | 160/4.5 µg | 2 | c | asthma copd | Budesonid/Formoterol
tiotropium | inh | 18 µg | 1 | c | copd
beclometasone | inh | 100 µg | 2 | c | asthma
montelukast | tab | 10 mg | 1 | c | asthma rhinitis
omeprazole | cap | 20 mg; 40 mg | 1 2 | m | reflux ulcer
pantoprazole | tab | 20 mg; 40 mg | 1 2 | m | reflux ulcer infarction
esomeprazole | cap | 20 mg; 40 mg | 1 | m | reflux
famotidine | tab | 20 mg; 40 mg | 1 2 | m | reflux
metoclopramide | tab | 10 mg | 3 | s | gastroenteritis migraine
ondansetron | tab | 4 mg; 8 mg | 2 | s | gastroenteritis
loperamide | cap | 2 mg | 3 | s | gastroenteritis
mesalazine | tab | 500 mg; 1000 mg | 3 | c | colitis
lactulose | syrup | 10 g/15 ml | 2 | m | constipation cirrhosis | Lactulose
macrogol | sachet | 13.7 g | 1 2 | m | constipation
sertraline | tab | 50 mg; 100 mg | 1 | c | depression anxiety
escitalopram | tab | 10 mg; 20 mg | 1 | c | depression anxiety
citalopram | tab | 20 mg | 1 | c | depression
mirtazapine | tab | 15 mg; 30 mg | 1 | c | depression insomnia
venlafaxine | cap | 75 mg; 150 mg | 1 | c | depression anxiety
amitriptyline | tab | 10 mg; 25 mg | 1 | c | migraine insomnia
zopiclone | tab | 3.75 mg; 7.5 mg | 1 | a | insomnia
levetiracetam | tab | 500 mg; 1000 mg | 2 | c | epilepsy
lamotrigine | tab | 25 mg; 100 mg | 2 | c | epilepsy
pregabalin | cap | 75 mg; 150 mg | 2 | c | zoster anxiety
gabapentin | cap | 300 mg | 3 | c | zoster
levodopa/carbidopa | tab | 100/25 mg | 3 | c | parkinson
donepezil | tab | 5 mg; 10 mg | 1 | c | dementia
cetirizine | tab | 10 mg | 1 | m | rhinitis urticaria
loratadine | tab | 10 mg | 1 | m | rhinitis urticaria
desloratadine | tab | 5 mg | 1 | m | rhinitis urticaria
mometasone | nasal | 50 µg | 1 | m | rhinitis sinusitis
hydrocortisone 1% | cream | 15 g; 30 g | 2 | a | eczema | Hydrocortison 1%
betamethasone 0.1% | cream | 30 g; 60 g | 1 2 | a | eczema psoriasis | Betamethason 0,1%
clotrimazole 1% | cream | 20 g; 50 g | 2 3 | a | tinea candidiasis | Clotrimazol 1%
fusidic acid 2% | cream | 15 g; 30 g | 3 | a | eczema cellulitis | Fusidinsäure 2%
adapalene 0.1% | cream | 30 g | 1 | m | acne | Adapalen 0,1%
calcipotriol | cream | 30 g; 60 g | 2 | m | psoriasis
finasteride | tab | 5 mg | 1 | c | prostate | | male
tamsulosin | cap | 0.4 mg | 1 | c | prostate | | male
dutasteride | cap | 0.5 mg | 1 | c | prostate | | male
mirabegron | tab | 25 mg; 50 mg | 1 | c | bladder
solifenacin | tab | 5 mg; 10 mg | 1 | c | bladder
alendronic acid | tab | 70 mg | w | m | osteoporosis | Alendronsäure
colecalciferol | cap | 800 IU; 1000 IU | 1 | c | osteoporosis vitamin_d | Colecalciferol
calcium carbonate | tab | 500 mg | 1 2 | c | osteoporosis | Calciumcarbonat
ferrous sulfate | tab | 200 mg; 325 mg | 1 2 | c | iron_deficiency | Eisen(II)-sulfat
cyanocobalamin | tab | 1000 µg | 1 | c | b12_deficiency
latanoprost 0.005% | eye | 2.5 ml | 1 | c | glaucoma | Latanoprost 0,005%
timolol 0.5% | eye | 5 ml | 2 | c | glaucoma | Timolol 0,5%
chloramphenicol 0.5% | eye | 10 ml | 4 | a | conjunctivitis | Chloramphenicol 0,5%
estradiol | tab | 1 mg; 2 mg | 1 | c | menopause | | female
progesterone | cap | 100 mg; 200 mg | 1 | c | menopause | | female
sevelamer | tab | 800 mg | 3 | c | kidney_disease
"""  # noqa: E501 (a table)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drug:
    """A generic drug as it is prescribed. `times` holds times a day, or "w" for once a week."""

    names: dict[str, str]
    form: str
    strengths: tuple[str, ...]
    times: tuple[str, ...]
    course: str
    diagnoses: tuple[str, ...]
    sex: str


def _german(name: str) -> str:
    shortened = name.removesuffix("e") if name.endswith(("ine", "ole", "ide", "one", "ate", "ime", "ene")) else name
    return shortened[0].upper() + shortened[1:]


def _drug(line: str) -> Drug:
    name, form, strengths, times, course, diagnoses, *rest = (part.strip() for part in line.split("|"))
    german = rest[0] if rest and rest[0] else _german(name)
    return Drug(
        names={"en": name[0].upper() + name[1:], "de": german, "vi": name[0].upper() + name[1:]},
        form=form,
        strengths=tuple(part.strip() for part in strengths.split(";")),
        times=tuple(times.split()),
        course=course,
        diagnoses=tuple(diagnoses.split()),
        sex=rest[1] if len(rest) > 1 else "",
    )


DRUGS = tuple(_drug(line) for line in _TABLE.strip().splitlines())
