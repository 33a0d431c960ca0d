"""The actors of a run and what the loop asks of them: generate, score, update, sync, save."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from transformers import AutoProcessor

from cluster.actors import Pending, share, wait_for
from cluster.cores import Place
from cluster.pool import Work, WorkerPool
from cluster.session import connect
from learner.batching import make_update_batches
from learner.config import LearnerConfig
from learner.types import ResponseKl, TrainingGroup, UpdateBatch, UpdateCost, UpdateStats
from learner.worker import LearnerWorker
from medvie_rl.batch import score_requests
from medvie_rl.config import Config
from medvie_rl.data.image_cache import ImageCache
from medvie_rl.data.load import RunData
from medvie_rl.data.ocr_prompt import OcrPrompts
from medvie_rl.data.prompt_lengths import document_prompt_tokens
from medvie_rl.data.prompts import render_chat
from medvie_rl.data.queries import Query, rollout_seed, stable_hash
from medvie_rl.data.sampling import longest_descriptions
from medvie_rl.environment import is_verbose, run_environment
from medvie_rl.errors import ConfigError
from medvie_rl.gpu_turns import GpuTurns, Turn
from medvie_rl.grammar import policy_grammar
from medvie_rl.layout import bundles_of, choose_places, reserve
from medvie_rl.weight_path import WeightPath
from rewards.components import ComponentLoadError
from rewards.types import Score
from rewards.worker import RewardWorker
from rollout.config import AdapterSlot, worker_environment
from rollout.types import GenerationRequest, RolloutGroup, WeightReceipt
from rollout.worker import RolloutWorker

_KEEP_BYTES = str(2**33)  # for glibc: more than an update on a CPU takes at once


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerClasses:
    """What the actors are made of: these classes, or others with their methods."""

    rollout: type = RolloutWorker
    learner: type = LearnerWorker


WORKER_CLASSES = WorkerClasses()


@contextmanager
def start_workers(
    config: Config,
    data: RunData,
    status: Callable[[str], None],
    notice: Callable[[str], None],
    classes: WorkerClasses = WORKER_CLASSES,
) -> Iterator["Workers"]:
    """Ray, and on it rollout workers, the reward actor and learner ranks, for the time of the context. `status` is told
    how starting goes, `notice` what happens to workers later."""
    environment = run_environment(allow_downloads=config.allow_downloads)
    num_cpus = config.cluster.reward_cpus + sum(bundle.cpus for of_kind in bundles_of(config) for bundle in of_kind)
    processor = AutoProcessor.from_pretrained(config.model)
    ocr = _read_text(config, data, processor.tokenizer, status)
    status("starting Ray")
    with connect(
        config.cluster, num_cpus=num_cpus, num_gpus=config.num_gpus, environment=environment, verbose=is_verbose()
    ):
        status("starting rollout engines, reward actor and learner (about half a minute)")
        workers = Workers(config, data, processor, ocr, classes, notice=notice)
        try:
            yield workers
        finally:
            workers.close()


class Workers:
    """Handles to the actors. Each verb blocks until all actors concerned are done."""

    def __init__(
        self,
        config: Config,
        data: RunData,
        processor: Any,
        ocr: OcrPrompts,
        classes: WorkerClasses,
        *,
        notice: Callable[[str], None],
    ) -> None:
        self._config = config
        self._data = data
        self._images = ImageCache(data)
        self._known_images: dict[Any, set[str]] = {}  # by engine, and of the learner
        self.processor = processor
        self._ocr = ocr
        layout = reserve(config, notice)
        self._reservation = layout.reservation
        self._rollouts, self._rewards, self._learners = layout.rollouts, layout.rewards, layout.learners
        of_rollouts, of_learners = choose_places(config, layout, notice)
        self._start_rollouts(classes.rollout, of_rollouts)
        self._rewards.start(RewardWorker, [(config.reward, data.schemas)], {})
        if config.rollout.sleep_while_learning:  # before the learner takes the GPUs' memory
            wait_for([actor.sleep.remote() for actor in self._rollouts.actors], "rollout engines to start and sleep")
        self._start_learners(classes.learner, of_learners)
        self._check_components()
        self._check_all_prompts()
        groups = [self._rewards, self._learners]
        ready = [actor.__ray_ready__.remote() for group in groups for actor in group.actors]
        wait_for(ready, "reward actor and learner to start")
        self._weights = WeightPath(config, self._learners)
        self._engines = WorkerPool(
            self._rollouts, config.cluster, what="rollout worker", prepare=self._weights.bring, notice=notice
        )
        ready = [actor.banned_token_ids.remote() for actor in self._rollouts.actors]
        self.banned_token_ids: tuple[int, ...] = wait_for(ready, "rollout engines to start")[0]
        self._turns = GpuTurns(config, self._engines, self._learners, Turn.LEARNING)
        self.learner_summary: str = wait_for([self._learners.actors[0].summary.remote()], "the learner")[0]

    def close(self) -> None:
        """End all actors."""
        self._rewards.close("close")  # it has processes of its own
        for group in (self._rollouts, self._learners):
            group.close()
        self._reservation.close()

    # --- generate and score ------------------------------------------------------------------------------------------

    def generate(self, queries: Sequence[Query], *, step: int, answers: bool = False) -> list[RolloutGroup]:
        """Sample `num_traces` responses for every query, or one answer each, as `evaluation` says, in the order of the
        queries."""
        self.finish_sync()
        return self.start_generating(queries, step=step, answers=answers).result()

    def start_generating(self, queries: Sequence[Query], *, step: int, answers: bool = False) -> Work:
        """The same without waiting. Engines take calls one after the other, a sync behind it included.

        Queries go to the engines statically, in contiguous shares; seeds are a hash of (seed, step, query).
        """
        self._turns.become(Turn.SAMPLING)

        def call(actor: Any, share: Sequence[Query]) -> Any:
            requests = [self._request(query, step=step, answers=answers) for query in share]
            return actor.generate.remote(requests, self._new_images(actor, share))

        return self._engines.submit(queries, call)

    def score(
        self, queries: Sequence[Query], groups: Sequence[RolloutGroup], *, built_in_only: bool = False
    ) -> list[tuple[Score, ...]]:
        """The scores of every group's rollouts, by the reward actor; see `RewardWorker.score`."""
        requests = score_requests(queries, groups, max_tokens=self._config.rollout.max_response_tokens)
        pending = self._rewards.actors[0].score.remote(requests, built_in_only=built_in_only)
        scores = iter(wait_for([pending], "rewards")[0])
        return [tuple(next(scores) for _ in group.rollouts) for group in groups]

    def health_metrics(self) -> dict[str, float]:
        """How many rollout workers live, and how many were lost since the run was started."""
        return {
            "rollout/live_workers": float(self._engines.num_live),
            "rollout/lost_workers": float(self._engines.num_lost),
        }

    # --- learn -------------------------------------------------------------------------------------------------------

    def update(
        self, queries: Sequence[Query], groups: Sequence[TrainingGroup], *, learning_rate: float, step: int
    ) -> tuple[UpdateStats, UpdateCost]:
        """One update of the policy by all learner ranks; the cost is that of rank 0."""
        stats, cost = self.start_update(queries, groups, learning_rate=learning_rate, step=step).result()[0]
        return stats, cost

    def start_update(
        self, queries: Sequence[Query], groups: Sequence[TrainingGroup], *, learning_rate: float, step: int
    ) -> Pending:
        """The same without waiting: statistics and cost of every rank are to come."""
        seed = stable_hash("minibatches", self._config.seed, step)
        batches = self._update_batches(groups, self._config.learner, learning_rate=learning_rate, seed=seed)
        return self._learn("update", batches, queries, "the update")

    def reference_kl(self, queries: Sequence[Query], groups: Sequence[TrainingGroup]) -> dict[tuple[str, int], float]:
        """KL to the reference of every response, summed over its tokens, by (query id, trace)."""
        once = replace(self._config.learner, epochs_per_step=1, minibatches_per_step=1)
        batches = self._update_batches(groups, once, learning_rate=0.0, seed=0)
        found: list[list[ResponseKl]]
        found = self._learn("reference_kl", batches, queries, "the reference's logprobs").result()
        return {(entry.query_id, entry.trace): entry.kl for of_rank in found for entry in of_rank}

    def _learn(self, method: str, batches: Sequence[UpdateBatch], queries: Sequence[Query], what: str) -> Pending:
        """Begin to call a method of all learner ranks, each with its batch."""
        self._turns.become(Turn.LEARNING)
        self._send_images(queries)
        calls = zip(self._learners.actors, batches, strict=True)
        return Pending([getattr(actor, method).remote(batch) for actor, batch in calls], what)

    def _update_batches(
        self, groups: Sequence[TrainingGroup], config: LearnerConfig, *, learning_rate: float, seed: int
    ) -> list[UpdateBatch]:
        sampled = self._config.method == "rl"  # demonstrations were not: they are learned as the text that they are
        return make_update_batches(
            groups,
            config,
            learning_rate=learning_rate,
            temperature=self._config.rollout.temperature if sampled else 1.0,
            max_response_tokens=self._config.rollout.max_response_tokens,
            banned_token_ids=self.banned_token_ids if sampled else (),
            max_logprob_difference=0.0 if self._config.pipeline_depth else self._config.rails.max_logprob_difference,
            seed=seed,
        )

    def sync_weights(self, version: int) -> WeightReceipt:
        """Bring the learner's weights into every engine."""
        self.start_sync(version)
        receipt = self.finish_sync()
        assert receipt is not None
        return receipt

    def start_sync(self, version: int) -> int:
        """The same without waiting for engines that need the learner no more; returns how many bytes each of them
        gets."""
        self._turns.become(Turn.SYNCING)
        return self._weights.start_sync(self._engines, version)

    def finish_sync(self) -> WeightReceipt | None:
        """Wait until all engines hold what was sent last; None if that is known already."""
        return self._weights.finish_sync()

    def load_weights(self, policy: Path, *, version: int) -> None:
        """Bring the weights of an exported policy into every engine, in place of the learner's."""
        self._turns.become(Turn.SYNCING)
        self._weights.load(self._engines, policy, version)

    def save(self, folder: Path) -> None:
        """Write the learner's state, every rank its part, into a folder that all nodes see."""
        self._turns.become(Turn.LEARNING)
        pending = [actor.save.remote(folder.absolute()) for actor in self._learners.actors]
        wait_for(pending, "the checkpoint")

    def load(self, folder: Path) -> None:
        """Restore the learner's state."""
        self._turns.become(Turn.LEARNING)
        wait_for([actor.load.remote(folder.absolute()) for actor in self._learners.actors], "the checkpoint")

    def export(self, folder: Path) -> None:
        """Write the policy in Hugging Face format, with tokenizer and processor."""
        self._turns.become(Turn.LEARNING)
        wait_for([actor.export.remote(folder.absolute()) for actor in self._learners.actors], "the policy's export")

    # --- starting ----------------------------------------------------------------------------------------------------

    def _start_rollouts(self, worker_class: type, places: Sequence[Place | None]) -> None:
        config, lora = self._config.rollout, self._config.learner.lora
        adapter = AdapterSlot(rank=lora.rank, vision=bool(lora.vision_targets)) if self._config.adapter_apart else None
        arguments = [(config, self._config.model, adapter)] * config.num_workers
        self._rollouts.start(worker_class, arguments, worker_environment(config), places)

    def _check_components(self) -> None:
        """Refuse a component of the reward that cannot be loaded on the reward actor's node, which alone needs it."""
        try:
            wait_for([self._rewards.actors[0].start.remote()], "reward actor to start")
        except ComponentLoadError as error:
            raise ConfigError(str(error)) from error

    def _start_learners(self, worker_class: type, places: Sequence[Place | None]) -> None:
        config, cluster = self._config.learner, self._config.cluster
        address, port = self._learners.meeting_point(cluster.learner_port)
        arguments = [
            (config, self._config.model, rank, config.num_ranks, address, port, self._config.loss)
            for rank in range(config.num_ranks)
        ]
        environment = learner_environment(config, on_gpu=cluster.on_gpus)
        self._learners.start(worker_class, arguments, environment, places)

    # --- prompts and images ------------------------------------------------------------------------------------------

    def prompt(self, query: Query) -> str:
        """The rendered prompt of a query, with one placeholder an image."""
        text = self._data.template.user_text(
            self._data.schemas[query.document.schema],
            query.keys,
            reasoning=query.reasoning,
            ocr=self._ocr.lines(query.document, self._data),
            columns=query.columns,
            descriptions=query.descriptions,
            language=query.document.language,
        )
        return render_chat(self.processor, text, num_images=len(query.document.image_keys))

    def _request(self, query: Query, *, step: int, answers: bool) -> GenerationRequest:
        return GenerationRequest(
            query_id=query.id,
            prompt=self.prompt(query),
            image_keys=query.document.image_keys,
            num_traces=1 if answers else self._config.num_traces,
            seed=rollout_seed(self._config.seed, step, query.id),
            weight_version=self._weights.version,
            answer=self._config.evaluation.sampling if answers else None,
            grammar=self._grammar(query) if answers and self._config.evaluation.constrained else "",
        )

    def _grammar(self, query: Query) -> str:
        return policy_grammar(
            self.processor.tokenizer,
            self._data.schemas[query.document.schema],
            query.keys,
            reasoning=query.reasoning,
            max_response_tokens=self._config.rollout.max_response_tokens,
            columns=query.columns,
        )

    def _send_images(self, queries: Sequence[Query]) -> None:
        """Send the learner's ranks what they have not got, which is the same for all of them."""
        if images := self._new_images(self._learners, queries):
            shared = share(images)
            wait_for([actor.add_images.remote(shared) for actor in self._learners.actors], "images to arrive")

    def _new_images(self, receiver: Any, queries: Sequence[Query]) -> dict[str, bytes]:
        """The queries' images that an engine, or the learner, has not got: a document's images travel there once."""
        known = self._known_images.setdefault(receiver, set())
        images: dict[str, bytes] = {}
        for query in queries:
            if not known.issuperset(query.document.image_keys):
                images |= self._images.images(query.document)
                known.update(query.document.image_keys)
        return images

    def _check_all_prompts(self) -> None:
        """Refuse a document whose prompt would not fit before anything is sampled: prompts are never truncated."""
        limit = self._config.rollout.max_prompt_tokens
        too_long = []
        for document in chain(self._data.train, self._data.validation, self._data.test):
            schema = self._data.schemas[document.schema]
            text = self._data.template.user_text(
                schema,
                schema.keys,
                reasoning=True,
                ocr=self._ocr.lines(document, self._data),
                descriptions=longest_descriptions(schema) if self._config.queries.paraphrase_fraction else {},
                language=document.language,
            )
            num_tokens = document_prompt_tokens(self.processor, document, text)
            if num_tokens > limit:
                too_long.append(f"document '{document.id}' ({num_tokens} tokens)")
        if too_long:
            raise ConfigError(
                f"{len(too_long)} prompts are longer than the {limit} tokens that rollout.max_model_len minus "
                f"rollout.max_response_tokens leave: {', '.join(too_long[:5])}. Raise max_model_len, or lower "
                "max_pixels in the policy's preprocessor configuration (or ocr.max_tokens, with ocr.mode on)"
            )


def _read_text(config: Config, data: RunData, tokenizer: Any, status: Callable[[str], None]) -> OcrPrompts:
    """Recognise the text of all documents where prompts take it, before the actors need the machine."""
    try:
        ocr = OcrPrompts.open(config.ocr, tokenizer, config.data.path)
        ocr.read(chain(data.train, data.validation, data.test), data, status)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return ocr


def learner_environment(config: LearnerConfig, *, on_gpu: bool) -> dict[str, str]:
    """Variables of a learner process.

    By default waiting threads sleep after some microseconds: spinning longer starves the other processes, and not
    spinning at all costs a second thread nearly all of its use, since operations of a small policy follow each other
    within that time.
    On a CPU the memory of one update is kept for the next: giving it back takes a fifth of the update in page faults.
    """
    variables = {
        "OMP_NUM_THREADS": str(config.num_threads),
        "MKL_NUM_THREADS": str(config.num_threads),
        "OMP_WAIT_POLICY": config.omp_wait_policy,
        "GOMP_SPINCOUNT": str(config.gomp_spincount),
    }
    if not on_gpu:
        variables |= {"MALLOC_MMAP_THRESHOLD_": _KEEP_BYTES, "MALLOC_TRIM_THRESHOLD_": _KEEP_BYTES}
    return variables
