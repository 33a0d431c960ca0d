"""Extraction of many documents: in this process, or by several workers of a Ray cluster through Ray Data."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.config import ClusterConfig
from cluster.session import connect
from medvie_rl.data.pages import UnreadableFileError
from medvie_rl.environment import run_environment
from medvie_rl.extraction.calibration import Calibration
from medvie_rl.extraction.extractor import Asking, Extractor, policy_settings
from medvie_rl.extraction.inputs import InputDocument, InputFile, read_file
from medvie_rl.extraction.lines import line, unreadable_line
from medvie_rl.progress import UNSEEN, Progress
from rewards.schema import Schema
from rollout.config import worker_environment

BATCH = 8  # files that are sampled together; lines appear as often


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done with every file."""

    asking: Asking
    schema: Schema
    language: str = ""
    each_page: bool = False
    dpi: int = 150
    calibration: Calibration | None = None
    review_below: float | None = None


class FileExtractor:
    """Turns files into lines; what goes wrong with a file is its line."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._extractor = Extractor(job.asking)
        holds = job.calibration is not None and job.calibration.holds_for(self._extractor.asked)
        self._calibration = job.calibration if holds else None

    def notes(self) -> list[str]:
        """What people should know beside the lines."""
        found = [self._extractor.note()]
        if self._job.calibration and not self._calibration:
            found.append(
                f"confidences are not calibrated: the policy was calibrated for {dict(self._job.calibration.asked)}, "
                f"and is asked with {self._extractor.asked}"
            )
        return [note for note in found if note]

    def lines(self, files: Sequence[InputFile]) -> list[dict[str, Any]]:
        """The lines of files that are sampled together, in their order."""
        job = self._job
        found: list[dict[str, Any] | InputDocument] = []
        for file in files:
            try:
                found += read_file(file, each_page=job.each_page, dpi=job.dpi)
            except UnreadableFileError as error:
                found.append(unreadable_line(file.id, str(file.path), str(error)))
        documents = [item for item in found if isinstance(item, InputDocument)]
        made = iter(self._extractor.extract(documents, job.schema, job.language) if documents else [])
        return [
            line(
                next(made),
                job.schema,
                calibration=self._calibration,
                review_below=job.review_below,
                with_confidence=self._extractor.votes,
            )
            if isinstance(item, InputDocument)
            else item
            for item in found
        ]


def extract_files(
    job: Job,
    files: Sequence[InputFile],
    *,
    num_workers: int,
    address: str,
    notice: Callable[[str], None],
    progress: Progress = UNSEEN,
) -> Iterator[list[dict[str, Any]]]:
    """The lines of the files, a batch at a time: in the order of the files, or as several workers are done."""
    progress.begin(len(files))
    if num_workers and files:
        yield from _on_cluster(job, files, num_workers=num_workers, address=address, progress=progress)
        return
    extractor = FileExtractor(job)
    for batch in progress.batches(files, BATCH):
        yield extractor.lines(batch)
    for note in extractor.notes():
        notice(note)


def _on_cluster(
    job: Job, files: Sequence[InputFile], *, num_workers: int, address: str, progress: Progress
) -> Iterator[list[dict[str, Any]]]:
    """By `num_workers` engines, each with its own GPUs where there are some. Every node must see the files and the
    policy at the same paths."""
    settings = policy_settings(job.asking).engine
    environment = run_environment(allow_downloads=False)
    cluster = ClusterConfig(address=address)
    with connect(cluster, num_cpus=num_workers + 1, environment=environment):  # one for reading
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        num_gpus = settings.tensor_parallel_size if ray.cluster_resources().get("GPU") else 0
        dataset = ray.data.from_items([{"id": file.id, "path": str(file.path)} for file in files])
        answered = dataset.repartition(max(1, len(files) // BATCH)).map_batches(
            _Worker,
            fn_constructor_args=(job,),
            batch_size=BATCH,
            concurrency=num_workers,
            num_cpus=0 if num_gpus else 1,
            num_gpus=num_gpus,
            runtime_env={"env_vars": environment | worker_environment(settings)},
        )
        for row in answered.iter_rows():
            yield json.loads(row["lines"])
            progress.advance(row["num_files"])


class _Worker:
    """What Ray Data runs: batches of files in, batches of lines as JSON out."""

    def __init__(self, job: Job) -> None:
        self._extractor = FileExtractor(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        files = [
            InputFile(id=str(name), path=Path(str(path))) for name, path in zip(batch["id"], batch["path"], strict=True)
        ]
        return {"num_files": [len(files)], "lines": [json.dumps(self._extractor.lines(files))]}
