"""What is kept when an update fails: the responses that were being learned from, to look at."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from learner.errors import SuspectError
from medvie_rl.batch import ScoredGroup
from medvie_rl.files import write_atomically
from medvie_rl.records import as_json, rollout_records, without_texts
from medvie_rl.run import Run


@contextmanager
def dumped_if_suspect(run: Run, step: int, groups: Sequence[ScoredGroup]) -> Iterator[None]:
    """When the update inside raises SuspectError: write the suspects' records (without texts in private) into the run
    directory, and raise FloatingPointError naming their documents and the file."""
    try:
        yield
    except SuspectError as error:
        records = rollout_records(step, [group for group in groups if group.query.id in error.queries])
        kept = [without_texts(record) for record in records] if run.config.records.private else records
        path = run.folder / "failures" / f"step-{step:06d}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, "".join(json.dumps(as_json(record), ensure_ascii=False) + "\n" for record in kept))
        documents = sorted({record.document for record in records})
        raise FloatingPointError(
            f"step {step}: {error}. Documents: {', '.join(documents)}; their records are in {path}"
        ) from error
