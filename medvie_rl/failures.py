"""What is kept when an update fails: the responses that were being learned from, to look at."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from learner.errors import SuspectError
from medvie_rl.batch import ScoredGroup, rollout_records
from medvie_rl.files import write_atomically
from medvie_rl.run import Run


@contextmanager
def dumped_if_suspect(run: Run, step: int, groups: Sequence[ScoredGroup]) -> Iterator[None]:
    """When the update inside raises SuspectError: write the suspects' prompts, responses, logprobs and rewards into
    the run directory, and raise FloatingPointError naming their documents and the file."""
    try:
        yield
    except SuspectError as error:
        suspects = [group for group in groups if group.query.id in error.queries]
        traces = [(group, rollout) for group in suspects for rollout in group.group.rollouts]
        lines = [
            json.dumps(
                record
                | {
                    "prompt_ids": group.group.prompt_ids,
                    "token_ids": rollout.token_ids,
                    "sampler_logprobs": rollout.logprobs,
                },
                ensure_ascii=False,
            )
            for record, (group, rollout) in zip(rollout_records(step, suspects), traces, strict=True)
        ]
        path = run.folder / "failures" / f"step-{step:06d}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, "\n".join(lines) + "\n")
        documents = sorted({group.query.document.id for group in suspects})
        raise FloatingPointError(
            f"step {step}: {error}. Documents: {', '.join(documents)}; responses, logprobs and rewards are in {path}"
        ) from error
