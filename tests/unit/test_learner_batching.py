"""Minibatches, ranks and micro-batches: every response exactly once per epoch, within budget, in step."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from learner.batching import make_update_batches, plan_micro_batches, row_length, split_long_group
from learner.config import LearnerConfig
from learner.types import TrainingGroup, TrainingResponse


def group(name: str, *, prompt: int = 10, lengths: tuple[int, ...] = (4, 6)) -> TrainingGroup:
    responses = tuple(
        TrainingResponse(token_ids=tuple(range(100 * i, 100 * i + n)), sampler_logprobs=(-1.0,) * n, advantage=1.0)
        for i, n in enumerate(lengths)
    )
    return TrainingGroup(query_id=name, prompt_ids=(1,) * prompt, image_keys=(f"{name}.png",), responses=responses)


SETTINGS: dict[str, Any] = {"learning_rate": 0.1, "temperature": 1.0, "max_response_tokens": 16}
GROUPS = [group(f"q{i}", prompt=10 + i, lengths=(3 + i, 5, 2 * i + 1)) for i in range(7)]


def test_every_response_once_per_epoch_whatever_the_layout() -> None:
    expected = Counter((g.query_id, r.token_ids) for g in GROUPS for r in g.responses)
    for num_ranks in (1, 2, 3):
        config = LearnerConfig(
            num_ranks=num_ranks, minibatches_per_step=2, epochs_per_step=2, max_tokens_per_micro_batch=64
        )
        batches = make_update_batches(GROUPS, config, **SETTINGS)
        assert len(batches) == num_ranks
        assert len({(b.num_micro_batches, b.num_response_tokens, b.num_responses) for b in batches}) == 1
        for epoch in range(2):
            seen = Counter(
                (g.query_id, r.token_ids)
                for batch in batches
                for minibatch in batch.minibatches[2 * epoch : 2 * epoch + 2]
                for g in minibatch
                for r in g.responses
            )
            assert seen == expected
        for m, tokens in enumerate(batches[0].num_response_tokens):
            responses = [r for b in batches for g in b.minibatches[m] for r in g.responses]
            assert tokens == sum(len(r.token_ids) for r in responses)
            assert batches[0].num_responses[m] == len(responses)
            for batch in batches:
                plan = plan_micro_batches(batch.minibatches[m], 64, batch.num_micro_batches[m])
                assert len(plan) == batch.num_micro_batches[m]
                assert all(sum(map(row_length, rows)) <= 64 for rows in plan)


def test_ranks_are_balanced_by_tokens() -> None:
    config = LearnerConfig(num_ranks=2)
    a, b = make_update_batches(GROUPS, config, **SETTINGS)
    tokens = [sum(map(row_length, batch.minibatches[0])) for batch in (a, b)]
    assert sum(tokens) == sum(map(row_length, GROUPS)) and abs(tokens[0] - tokens[1]) <= 15


def test_a_rank_without_groups_gets_a_padding_group() -> None:
    batches = make_update_batches(GROUPS[:1], LearnerConfig(num_ranks=2), **SETTINGS)
    assert [g.responses == () for batch in batches for g in batch.minibatches[0]] == [False, True]
    assert [len(plan_micro_batches(b.minibatches[0], 8192, b.num_micro_batches[0])) for b in batches] == [1, 1]


def test_same_input_same_batches_and_epochs_differ_in_order() -> None:
    config = LearnerConfig(epochs_per_step=2, minibatches_per_step=7)
    first, again = (make_update_batches(GROUPS, config, **SETTINGS, seed=3) for _ in range(2))
    assert first == again
    order = [minibatch[0].query_id for minibatch in first[0].minibatches]
    assert order[:7] == [g.query_id for g in GROUPS] and order[7:] != order[:7] and sorted(order[7:]) == order[:7]


def test_what_a_minibatch_holds_does_not_depend_on_ranks_or_micro_batches() -> None:
    dealt = []
    for num_ranks, max_tokens in ((1, 8192), (1, 34), (3, 34)):
        config = LearnerConfig(
            num_ranks=num_ranks, max_tokens_per_micro_batch=max_tokens, minibatches_per_step=3, epochs_per_step=2
        )
        batches = make_update_batches(GROUPS, config, **SETTINGS)
        dealt.append(
            [
                Counter((g.query_id, r) for b in batches for g in b.minibatches[m] for r in g.responses)
                for m in range(len(batches[0].minibatches))
            ]
        )
    assert len(dealt[0]) == 6 and dealt[0] == dealt[1] == dealt[2]
    rows = [row for g in GROUPS for row in split_long_group(g, 34)]
    assert len(rows) > len(GROUPS)  # some groups are split over rows there


def test_what_responses_begin_with_in_common_counts_once() -> None:
    alike = group("alike", lengths=(6, 6))
    first, second = alike.responses
    other = (*first.token_ids[:3], *second.token_ids[3:])
    assert row_length(alike) == 10 + 5 + 5
    assert row_length(replace(alike, responses=(first, replace(second, token_ids=other)))) == 10 + 5 + 2
    assert row_length(replace(alike, responses=(first, first))) == 10 + 5


def test_long_groups_are_split_never_truncated() -> None:
    parts = split_long_group(group("long", lengths=(6, 6, 6, 6)), 20)  # prompt 10, 5 tokens each behind it
    assert [row_length(part) for part in parts] == [20, 20]
    assert sum(len(part.responses) for part in parts) == 4
    with pytest.raises(ValueError, match=r"query 'long'.*need 15 tokens.*max_tokens_per_micro_batch = 14"):
        split_long_group(group("long", lengths=(6,)), 14)


def test_more_micro_batches_on_demand() -> None:
    plan = plan_micro_batches(GROUPS[:3], 8192, 5)
    assert len(plan) == 5 and sum(len(g.responses) for rows in plan for g in rows) == 9
    assert sum(not g.responses for rows in plan for g in rows) == 2


def test_what_cannot_be_trained_is_refused() -> None:
    def make(groups: list[TrainingGroup], num_ranks: int = 1) -> None:
        make_update_batches(groups, LearnerConfig(num_ranks=num_ranks), **SETTINGS)

    with pytest.raises(ValueError, match="no groups"):
        make([])
    with pytest.raises(ValueError, match=r"query 'a'.*at least one response"):
        make([group("a", lengths=())])
    with pytest.raises(ValueError, match=r"query 'a', response 0.*2 tokens and 1 logprobs"):
        broken = TrainingResponse(token_ids=(1, 2), sampler_logprobs=(-1.0,), advantage=0.0)
        make([TrainingGroup(query_id="a", prompt_ids=(1,), image_keys=(), responses=(broken,))])
    with pytest.raises(ValueError, match=r"query 'q0', response 0 holds banned token\(s\) \[2\]"):
        make_update_batches(GROUPS, LearnerConfig(), **SETTINGS, banned_token_ids=(2, 99))
    with pytest.raises(ValueError, match="sampled responses and demonstrations"):
        demonstrations = tuple(replace(response, sampler_logprobs=None) for response in GROUPS[0].responses)
        make([replace(GROUPS[0], responses=demonstrations), GROUPS[1]])
    text_only = TrainingGroup(query_id="t", prompt_ids=(1,), image_keys=(), responses=GROUPS[0].responses)
    make([GROUPS[0], text_only])
    with pytest.raises(ValueError, match=r"query 't' has no image"):
        make([GROUPS[0], text_only], num_ranks=2)
