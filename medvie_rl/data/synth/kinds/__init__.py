"""Every kind of synthetic document: a function of (random generator, language) that says what the document says."""

import random
from collections.abc import Callable, Mapping

from medvie_rl.data.synth.blocks import Content
from medvie_rl.data.synth.kinds import (
    dermatology,
    discharge,
    imaging,
    laboratory,
    pathology,
    prescription,
    sales,
    vaccination,
)

KINDS: Mapping[str, Callable[[random.Random, str], Content]] = {
    "laboratory_report": laboratory.laboratory_report,
    "prescription": prescription.prescription,
    "chest_xray": imaging.chest_xray,
    "imaging_report": imaging.imaging_report,
    "pathology_report": pathology.pathology_report,
    "dermatology_report": dermatology.dermatology_report,
    "discharge_summary": discharge.discharge_summary,
    "vaccination_card": vaccination.vaccination_card,
    "receipt": sales.receipt,
    "invoice": sales.invoice,
}
# ISO 639-1 codes of the languages that each kind is written in.
LANGUAGES: Mapping[str, tuple[str, ...]] = {
    "laboratory_report": laboratory.LANGUAGES,
    "prescription": prescription.LANGUAGES,
    "chest_xray": imaging.LANGUAGES,
    "imaging_report": imaging.LANGUAGES,
    "pathology_report": pathology.LANGUAGES,
    "dermatology_report": dermatology.LANGUAGES,
    "discharge_summary": discharge.LANGUAGES,
    "vaccination_card": vaccination.LANGUAGES,
    "receipt": sales.LANGUAGES,
    "invoice": sales.LANGUAGES,
}
