"""How responses are sampled by a real engine: grammars, cut distributions, streams, and what the traces share."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import llguidance
import llguidance.hf
import pytest
from transformers import AutoProcessor

from medvie_rl.grammar import answer_grammar, has_reasoning_tokens
from rewards.parsing import parse_response
from rewards.schema import load_schema
from rollout.config import AnswerSampling, RolloutConfig
from rollout.types import FinishReason, GenerationRequest, Rollout
from rollout_engine import POLICY, ROOT, EngineProcess, make_requests, save_changed_checkpoint, slip_images, slips

CONFIG = RolloutConfig(max_response_tokens=192, max_model_len=512, kv_cache_gib=0.5)
NUM_ANSWERS, NUM_TRACES = 60, 8
REASONING = 300  # characters


class Policy:
    """The shipped policy in an engine, and requests of which every other asks for reasoning."""

    def __init__(self) -> None:
        self.processor = AutoProcessor.from_pretrained(POLICY)
        self.engine = EngineProcess(CONFIG, POLICY)
        self.images = slip_images(NUM_ANSWERS)
        self.engine.add_images(self.images)
        self.requests = make_requests(self.processor, self.images, num_traces=1, greedy=True)
        tokens = has_reasoning_tokens(self.processor.tokenizer)
        self.schemas = [load_schema(ROOT / "conf/schemas" / f"{slips()[key][0].schema}.yaml") for key in self.images]
        self.grammars = [
            answer_grammar(schema, schema.keys, max_reasoning=0 if index % 2 else REASONING, reasoning_tokens=tokens)
            for index, schema in enumerate(self.schemas)
        ]

    def answers(self, *, constrained: bool, sampling: AnswerSampling) -> list[Rollout]:
        requests = [
            replace(request, answer=sampling, grammar=grammar if constrained else "")
            for request, grammar in zip(self.requests, self.grammars, strict=True)
        ]
        return [group.rollouts[0] for group in self.engine.generate(requests)]

    @cached_property
    def greedy(self) -> list[Rollout]:
        """Without any grammar."""
        return self.answers(constrained=False, sampling=AnswerSampling())

    def follows_grammar(self) -> Any:
        """A function of (index, answer)."""
        tokenizer = llguidance.hf.from_tokenizer(self.processor.tokenizer)

        def follows(index: int, answer: Rollout) -> bool:
            matcher = llguidance.LLMatcher(tokenizer, self.grammars[index])
            tokens = list(answer.token_ids[:-1])
            if answer.finish_reason is not FinishReason.STOP or matcher.validate_tokens(tokens) < len(tokens):
                return False
            assert matcher.consume_tokens(tokens)
            return bool(matcher.is_accepting())

        return follows


@pytest.fixture(scope="module")
def policy() -> Iterator[Policy]:
    made = Policy()
    yield made
    made.engine.close()


def test_greedy_answers_that_follow_the_grammar_stay_what_they_are(policy: Policy) -> None:
    free = policy.greedy
    constrained = policy.answers(constrained=True, sampling=AnswerSampling())
    follows = policy.follows_grammar()
    inside = [index for index, answer in enumerate(free) if follows(index, answer)]
    assert len(inside) >= 0.8 * NUM_ANSWERS
    assert [constrained[index].token_ids for index in inside] == [free[index].token_ids for index in inside]
    assert all(follows(index, answer) for index, answer in enumerate(constrained))


def test_constrained_answers_are_valid_however_hot_they_are_sampled(policy: Policy) -> None:
    hot = AnswerSampling(temperature=1.7)
    num_invalid = 0
    for constrained in (False, True):
        for index, answer in enumerate(policy.answers(constrained=constrained, sampling=hot)):
            parsed = parse_response(answer.text, reasoning=index % 2 == 0)
            if not constrained:
                num_invalid += parsed.answer is None
            elif answer.finish_reason is FinishReason.STOP:
                assert parsed.answer is not None, answer.text
                assert set(parsed.answer) <= set(policy.schemas[index].keys)
                assert not parsed.answer.repeated
    assert num_invalid > 0.1 * NUM_ANSWERS  # which the grammar mends


def test_logprobs_under_a_grammar_are_over_what_it_leaves(policy: Policy) -> None:
    request = replace(policy.requests[1], grammar='start: "{" ("\\"age\\"" | "\\"sex\\"") ":1}"')
    (group,) = policy.engine.generate([request])
    (answer,) = group.rollouts
    assert answer.text in ('{"age":1}', '{"sex":1}')
    assert sum(logprob == 0.0 for logprob in answer.logprobs) >= len(answer.logprobs) - 1


def test_a_grammar_that_is_none_is_refused_and_the_engine_goes_on(policy: Policy) -> None:
    with pytest.raises(Exception, match=r"(?i)grammar"):
        policy.engine.generate([replace(policy.requests[0], grammar="start: nowhere")])
    assert policy.engine.generate(policy.requests[:1])[0].rollouts[0].text


@pytest.mark.parametrize("only_one", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999}])
def test_sampling_from_the_most_probable_token_alone_is_greedy(policy: Policy, only_one: dict[str, Any]) -> None:
    cut = policy.answers(constrained=False, sampling=AnswerSampling(temperature=1.0, **only_one))
    assert [answer.token_ids for answer in cut] == [answer.token_ids for answer in policy.greedy]
    assert all(logprob == 0.0 for answer in cut for logprob in answer.logprobs)  # over the one token that is left


def training_requests(processor: Any, num_queries: int) -> list[GenerationRequest]:
    return make_requests(processor, slip_images(num_queries), num_traces=NUM_TRACES, greedy=False)


def test_equal_prompts_in_a_batch_get_different_responses(tmp_path: Path) -> None:
    folder = tmp_path / "uncertain"
    save_changed_checkpoint(POLICY, folder, seed=5)  # of which no token is certain
    engine = EngineProcess(replace(CONFIG, max_response_tokens=24), folder)
    try:
        engine.add_images(slip_images(1))
        (request,) = training_requests(AutoProcessor.from_pretrained(POLICY), 1)
        twice = [request, replace(request, query_id="again", seed=request.seed + 10**6)]
        first, second = ({rollout.token_ids for rollout in group.rollouts} for group in engine.generate(twice))
        assert len(first) == len(second) == NUM_TRACES
        assert not first & second
        overlapping = [request, replace(request, query_id="again", seed=request.seed + 1)]
        first, second = ({rollout.token_ids for rollout in group.rollouts} for group in engine.generate(overlapping))
        assert len(first & second) == NUM_TRACES - 1  # streams that overlap are seen
    finally:
        engine.close()


@pytest.mark.parametrize("caching", [True, False])
def test_the_traces_of_a_query_share_one_prefill_and_one_image_encoding(caching: bool) -> None:
    num_queries = 6
    requests = training_requests(AutoProcessor.from_pretrained(POLICY), num_queries)
    config = replace(CONFIG, enable_prefix_caching=caching)
    engine = EngineProcess(config, POLICY)
    try:
        engine.add_images(slip_images(num_queries))
        groups, sharing = engine.generate_and_count(requests)
    finally:
        engine.close()
    lengths = [len(group.prompt_ids) for group in groups]
    assert sharing.num_images == num_queries  # also without the prefix cache: embeddings have a cache of their own
    if caching:
        assert sharing.num_looked_up == NUM_TRACES * sum(lengths)
        shared = [(length - 1) // config.block_size * config.block_size for length in lengths]  # one token is computed
        assert sharing.num_found == (NUM_TRACES - 1) * sum(shared)
        assert sharing.num_found > 0.6 * sharing.num_looked_up
    else:
        assert sharing.num_found == 0
    assert [len(group.rollouts) for group in groups] == [NUM_TRACES] * num_queries
