"""Bringing in a user's documents, annotated or not, in the formats that people have them in.

`records.py` says what a document of a source is; one module a format reads them; `run.py` checks them, reads their
pages and writes the dataset.
"""

from medvie_rl.data.importing.detect import FORMATS as FORMATS
from medvie_rl.data.importing.records import ImportReport as ImportReport
from medvie_rl.data.importing.run import import_documents as import_documents
from medvie_rl.data.importing.run import import_folder as import_folder
