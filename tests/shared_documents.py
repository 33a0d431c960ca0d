"""Where the real documents are that some tests read; they are not part of the repository."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def find() -> Path:
    """The folder of real documents: in MEDVIE_SHARED if that is set, else in `shared` beside the repository."""
    shared = os.environ.get("MEDVIE_SHARED")
    return (Path(shared) if shared else ROOT.parent / "shared") / "real_documents"


REAL = find()
MISSING = f"the real documents are not here ({REAL}); set MEDVIE_SHARED to the folder that has them"
SCHEMAS = {
    "invoice2data_invoices": ROOT / "tests/schemas/invoice.yaml",
    "medicine_boxes_en": ROOT / "conf/schemas/medicine_box.yaml",
    "mtsamples_rendered": ROOT / "tests/schemas/transcribed_report.yaml",
    "openi_radiology_rendered": ROOT / "conf/schemas/radiology_report.yaml",
    "sroie_receipts": ROOT / "tests/schemas/receipt.yaml",
    "vaipe_prescriptions_vi": ROOT / "conf/schemas/prescription_vi.yaml",
    "wildreceipt": ROOT / "tests/schemas/receipt_photo.yaml",
}
