"""Splits groups into minibatches, ranks and micro-batches: pure, deterministic, balanced by tokens.

A *group* is a query's responses behind one prompt, trained as one row: the prompt once, then the responses. A group
with no responses is a padding group: its row runs through the model, so that ranks stay in step, and adds nothing to
the loss.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from operator import itemgetter

from learner.config import LearnerConfig
from learner.layout import RowLayout, prefix_tree
from learner.types import TrainingGroup, UpdateBatch


def row_length(group: TrainingGroup) -> int:
    """Tokens of the group's packed row, what responses begin with in common counted once. A response's last token
    predicts nothing and is left out."""
    branches, _ = prefix_tree([response.token_ids[:-1] for response in group.responses])
    return RowLayout(len(group.prompt_ids), branches, padding=0).num_tokens


def num_response_tokens(groups: Sequence[TrainingGroup]) -> int:
    return sum(len(response.token_ids) for group in groups for response in group.responses)


def make_update_batches(
    groups: Sequence[TrainingGroup],
    config: LearnerConfig,
    *,
    learning_rate: float,
    temperature: float,
    max_response_tokens: int,
    banned_token_ids: Sequence[int] = (),
    max_logprob_difference: float = 0.0,
    seed: int = 0,
) -> list[UpdateBatch]:
    """One UpdateBatch per rank from the groups of one training step.

    Every epoch deals the groups into `minibatches_per_step` minibatches (an optimizer step each); from the second
    epoch on in an order drawn from `seed`. Within a minibatch the groups are spread over the ranks by tokens. Raises
    ValueError on what cannot be trained (no groups, an empty or over-long response, a banned token in a response, mixed
    text and image prompts).
    """
    _validate(groups, config, frozenset(banned_token_ids))
    dealt: list[list[TrainingGroup]] = []
    for epoch in range(config.epochs_per_step):
        order = list(groups)
        if epoch > 0:
            random.Random(f"{seed}/{epoch}").shuffle(order)
        dealt += _deal(order, config.minibatches_per_step)
    max_tokens = config.max_tokens_per_micro_batch  # splits rows after they are dealt: the steps do not depend on it
    minibatches = [[row for group in minibatch for row in split_long_group(group, max_tokens)] for minibatch in dealt]
    shares = [spread_over_ranks(minibatch, config.num_ranks) for minibatch in minibatches]
    num_micro_batches = tuple(
        max(len(plan_micro_batches(groups_of_rank, config.max_tokens_per_micro_batch)) for groups_of_rank in share)
        for share in shares
    )
    return [
        UpdateBatch(
            minibatches=tuple(tuple(share[rank]) for share in shares),
            num_micro_batches=num_micro_batches,
            num_response_tokens=tuple(num_response_tokens(minibatch) for minibatch in minibatches),
            num_responses=tuple(sum(len(group.responses) for group in minibatch) for minibatch in minibatches),
            max_response_tokens=max_response_tokens,
            learning_rate=learning_rate,
            temperature=temperature,
            banned_token_ids=tuple(sorted(banned_token_ids)),
            max_logprob_difference=max_logprob_difference,
        )
        for rank in range(config.num_ranks)
    ]


def split_long_group(group: TrainingGroup, max_tokens: int) -> list[TrainingGroup]:
    """The group itself, or several with the same prompt and fewer responses each, none longer than `max_tokens`."""
    if row_length(group) <= max_tokens:
        return [group]
    parts: list[TrainingGroup] = []
    for response in group.responses:
        if parts:
            longer = replace(parts[-1], responses=(*parts[-1].responses, response))
            if row_length(longer) <= max_tokens:
                parts[-1] = longer
                continue
        parts.append(replace(group, responses=(response,)))
        if row_length(parts[-1]) > max_tokens:
            raise ValueError(
                f"query {group.query_id!r}: prompt and one response need {row_length(parts[-1])} tokens, more than "
                f"learner.max_tokens_per_micro_batch = {max_tokens}; raise it, or lower the image resolution or the "
                "response limit"
            )
    return parts


def spread_over_ranks(groups: Sequence[TrainingGroup], num_ranks: int) -> list[list[TrainingGroup]]:
    """Groups of each rank, longest first to the rank with the fewest tokens. A rank that would stay without a group
    gets a padding group."""
    ranks: list[list[TrainingGroup]] = [[] for _ in range(num_ranks)]
    tokens = [0] * num_ranks
    for length, group in _longest_first(groups):
        rank = tokens.index(min(tokens))
        ranks[rank].append(group)
        tokens[rank] += length
    padding = replace(min(groups, key=lambda group: len(group.prompt_ids)), responses=())
    return [groups_of_rank or [padding] for groups_of_rank in ranks]


def plan_micro_batches(
    groups: Sequence[TrainingGroup], max_tokens: int, num_micro_batches: int = 0
) -> list[list[TrainingGroup]]:
    """Micro-batches of rows of similar length, each within `max_tokens` tokens; at least `num_micro_batches`.

    To reach that number the largest micro-batches are halved, and when all hold one row, padding groups are added.
    """
    plan: list[list[TrainingGroup]] = []
    num_tokens = 0  # of the last micro-batch
    for length, group in _longest_first(groups):
        if plan and num_tokens + length <= max_tokens:
            plan[-1].append(group)
            num_tokens += length
        else:
            plan.append([group])
            num_tokens = length
    while len(plan) < num_micro_batches:
        largest = max(range(len(plan)), key=lambda index: (len(plan[index]), -index))
        rows = plan[largest]
        if len(rows) == 1:
            plan.append([replace(min(groups, key=lambda group: len(group.prompt_ids)), responses=())])
        else:
            plan[largest : largest + 1] = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    return plan


def _longest_first(groups: Sequence[TrainingGroup]) -> list[tuple[int, TrainingGroup]]:
    """(row length, group): each length takes a prefix tree, so it is computed once."""
    return sorted(((row_length(group), group) for group in groups), key=itemgetter(0), reverse=True)


def _deal(groups: Sequence[TrainingGroup], num_minibatches: int) -> list[list[TrainingGroup]]:
    """Consecutive minibatches whose sizes differ by at most one; fewer when there are fewer groups than minibatches."""
    count = min(num_minibatches, len(groups))
    bounds = [len(groups) * index // count for index in range(count + 1)]
    return [list(groups[start:end]) for start, end in pairwise(bounds)]


def _validate(groups: Sequence[TrainingGroup], config: LearnerConfig, banned: frozenset[int]) -> None:
    if not groups:
        raise ValueError("no groups to update from; skip the update when every group is uninformative")
    for group in groups:
        if not group.prompt_ids or not group.responses:
            raise ValueError(f"query {group.query_id!r}: a group needs a prompt and at least one response")
        for index, response in enumerate(group.responses):
            logprobs = response.sampler_logprobs
            if not response.token_ids or (logprobs is not None and len(response.token_ids) != len(logprobs)):
                raise ValueError(
                    f"query {group.query_id!r}, response {index}: expected as many sampler logprobs as tokens and at "
                    f"least one, got {len(response.token_ids)} tokens and {len(logprobs or ())} logprobs"
                )
            if not banned.isdisjoint(response.token_ids):
                raise ValueError(
                    f"query {group.query_id!r}, response {index} holds banned token(s) "
                    f"{sorted(banned.intersection(response.token_ids))}: the sampler and the learner must ban the same"
                )
    text_only = [group.query_id for group in groups if not group.image_keys]
    if text_only and config.trains_vision and config.zero_stage == 3:
        raise ValueError(
            f"query {text_only[0]!r} has no image: under ZeRO-3 a vision tower that trains would get the gradient of "
            "the minibatch before; use learner.zero_stage 2, or freeze the vision tower"
        )
    if len({response.sampler_logprobs is None for group in groups for response in group.responses}) > 1:
        raise ValueError("sampled responses and demonstrations (without sampler logprobs) cannot share an update")
    if config.num_ranks > 1 and 0 < len(text_only) < len(groups):
        raise ValueError(
            f"query {text_only[0]!r} has no image and others have: ranks that skip the vision tower fall out of step; "
            "train text-only queries with learner.num_ranks = 1 or in runs of their own"
        )
