"""The user's components: loaded, added to the reward under their names, and held to returning finite numbers."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rewards.components import ComponentError, ComponentLoadError, load_components
from rewards.config import ComponentConfig, RewardConfig
from rewards.schema import FieldSpec, Schema
from rewards.scorer import Scorer, lowered_failures
from rewards.types import AnswerStatus, ScoreRequest

SCHEMA = Schema(
    name="slip",
    document_type="slip",
    description="slip",
    fields=tuple(FieldSpec(key=key, description=key, kind="text") for key in ("drug", "ward")),
)
REQUEST = ScoreRequest(
    query_id="q1", document_id="d1", schema="slip", asked=("drug", "ward"), truth={"drug": "aspirin", "ward": "B"},
    response='{"drug": "aspirin"}', reasoning=False, truncated=False, num_tokens=95, max_tokens=100,
)  # fmt: skip
CULPRIT = replace(REQUEST, query_id="culprit")


def scorer(*functions: str, weight: float = 1.0, **config: Any) -> Scorer:
    components = [ComponentConfig(function=f"faulty_components:{name}", weight=weight) for name in functions]
    values = RewardConfig(components=components, **config)
    return Scorer(values, {"slip": SCHEMA}, load_components(components))


def test_components_are_weighted_and_add_up_to_the_reward() -> None:
    """Built in: P = 1, R = 1/2, so 0.45 + 0.225 + 0.1 = 0.775; 19 characters earn 0.19, half the reward -0.3875."""
    score = scorer("characters", "halves_reward", weight=2.0).score(REQUEST)
    assert score.components == pytest.approx(
        {"precision": 0.45, "recall": 0.225, "format": 0.1, "characters": 0.38, "halves_reward": -0.775}
    )
    assert score.reward == math.fsum(score.components.values()) == pytest.approx(0.38)


def test_a_component_sees_the_overlong_penalty_and_has_its_own_name() -> None:
    component = ComponentConfig(function="faulty_components:halves_reward", name="cost")
    config = RewardConfig(components=[component], overlong_penalty=1.0, overlong_buffer=0.1)
    score = Scorer(config, {"slip": SCHEMA}, load_components([component])).score(REQUEST)
    assert score.components["overlong"] == pytest.approx(-0.5)
    assert score.components["cost"] == pytest.approx(-(0.775 - 0.5) / 2)


def test_measuring_leaves_out_components_and_the_overlong_penalty() -> None:
    unknown_length = replace(CULPRIT, num_tokens=0)
    score = scorer("raises", overlong_penalty=1.0).score(unknown_length, built_in_only=True)
    assert score.components.keys() == {"precision", "recall", "format"} and score.reward == pytest.approx(0.775)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("raises", 'faulty_components.Unpicklable: no dose in \'{"drug": "aspirin"}\''),
        ("quits", "SystemExit: enough"),
        ("returns_nothing", "returned None, expected a number"),
        ("returns_true", "returned True, expected a number"),
        ("returns_nan", "returned nan, expected a finite number"),
        ("returns_infinity", "returned -inf, expected a finite number"),
        ("returns_huge", f"returned 1{'0' * 400}, expected a finite number"),
    ],
)
def test_an_error_stops_the_run_or_is_counted(function: str, problem: str) -> None:
    message = f"reward component '{function}' (faulty_components:{function}) failed on query 'culprit' of document 'd1'"
    with pytest.raises(ComponentError) as caught:
        scorer("characters", function).score(CULPRIT)
    assert str(caught.value).startswith(f"{message}: {problem}")
    score = scorer("characters", function, on_component_error="count").score(CULPRIT)
    assert (score.status, score.detail) == (AnswerStatus.COMPONENT_ERROR, f"{function}: {problem}")
    assert score.reward == 0.0 and set(score.components.values()) == {0.0} and function in score.components
    assert (score.counts.omitted, score.counts.predicted, score.answer) == (2, 0, None)


def test_the_traceback_of_the_users_function_is_in_the_message() -> None:
    with pytest.raises(ComponentError) as caught:
        scorer("raises").score(CULPRIT)
    assert 'faulty_components.py", line' in str(caught.value) and "in raises\n    raise Unpicklable" in str(
        caught.value
    )
    assert "rewards/components.py" not in str(caught.value)


def test_a_failed_response_still_pays_for_its_length() -> None:
    failed = scorer("raises", on_component_error="count", overlong_penalty=1.0, overlong_buffer=0.1).score(CULPRIT)
    assert failed.reward == pytest.approx(-0.5) == math.fsum(failed.components.values())


def test_failing_earns_no_more_than_the_worst_of_its_query() -> None:
    """Else failing on purpose would pay where a component is negative."""
    values = scorer("halves_reward", weight=4.0)
    negative = values.score(REQUEST)  # built in 0.775, and -2 * 0.775
    better = replace(values.score(replace(REQUEST, response="{}")), query_id="q2")  # built in 0.1, and -0.2
    failed = values.failed(REQUEST, AnswerStatus.TIMEOUT, "late")
    assert (negative.reward, better.reward, failed.reward) == (pytest.approx(-0.775), pytest.approx(-0.1), 0.0)
    assert failed.components["failure"] == 0.0 and "failure" not in negative.components

    of_query, of_better, of_none = lowered_failures(
        [failed, replace(failed, query_id="q2"), replace(failed, query_id="q3"), negative, better]
    )[:3]
    for score, worst in ((of_query, -0.775), (of_better, -0.1), (of_none, -0.775)):
        assert score.reward == math.fsum(score.components.values()) == pytest.approx(worst)
        assert score.components["failure"] == pytest.approx(worst) and score.components["halves_reward"] == 0.0
        assert (score.status, score.detail) == (AnswerStatus.TIMEOUT, "late")
    assert lowered_failures([failed, failed]) == [failed, failed]  # none was scored: 0
    positive = scorer("characters").score(REQUEST)
    assert lowered_failures([failed, positive]) == [failed, positive]


def test_a_failed_response_that_pays_for_its_length_pays_only_what_is_missing_for_failing() -> None:
    values = scorer("raises", on_component_error="count", overlong_penalty=1.0, overlong_buffer=0.1)
    failed = values.score(CULPRIT)
    assert failed.reward == pytest.approx(-0.5)
    for worst, reward in ((-0.3, -0.5), (-0.8, -0.8)):
        peer = replace(failed, status=AnswerStatus.OK, reward=worst)
        lowered = lowered_failures([peer, failed])[1]
        assert lowered.reward == pytest.approx(reward) == math.fsum(lowered.components.values())
        assert lowered.components["failure"] == pytest.approx(reward + 0.5)


def test_a_failed_measurement_has_neither_components_nor_penalty() -> None:
    values = scorer("raises", overlong_penalty=1.0)
    unknown_length = replace(CULPRIT, num_tokens=0)
    failed = values.failed(unknown_length, AnswerStatus.CRASHED, "exit code 3", built_in_only=True)
    assert failed.components == {"precision": 0.0, "recall": 0.0, "format": 0.0}
    assert (failed.status, failed.detail, failed.counts.omitted) == (AnswerStatus.CRASHED, "exit code 3", 2)


def test_an_error_of_the_built_in_reward_is_a_defect_and_never_counted() -> None:
    values = scorer("characters", on_component_error="count", overlong_penalty=1.0)
    with pytest.raises(RuntimeError, match=r"scoring query 'q1' of document 'd1' failed: ValueError: .*num_tokens=0"):
        values.score(replace(REQUEST, num_tokens=0))
    with pytest.raises(RuntimeError, match="no schema 'note'; there are slip"):
        values.score(replace(REQUEST, schema="note"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("not_there:f", "module 'not_there' cannot be imported (ModuleNotFoundError: No module named 'not_there'). It"),
        ("broken_component:f", "module 'broken_component' cannot be imported (ZeroDivisionError: division by zero)"),
        ("faulty_components:sleep", "module 'faulty_components' has no function 'sleep'; did you mean 'sleeps'?"),
        ("faulty_components:zzzzzz", "module 'faulty_components' has no function 'zzzzzz'"),
        ("faulty_components:NOT_A_FUNCTION", "'faulty_components:NOT_A_FUNCTION' is a int, expected a function of"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_key(
    function: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_component.py").write_text("def f(request, score):\n    return 0\n\n1 / 0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    components = [ComponentConfig(function="faulty_components:sleeps"), ComponentConfig(function=function)]
    with pytest.raises(ComponentLoadError) as caught:
        load_components(components)
    assert str(caught.value).startswith(f"reward.components[1].function: {message}")
    assert ('broken_component.py", line 4' in str(caught.value)) == (function == "broken_component:f")


def test_modules_in_the_current_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewards_of_this_folder.py").write_text("def f(request, score):\n    return 0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere", *__import__("sys").path])
    (component,) = load_components([ComponentConfig(function="rewards_of_this_folder:f", weight=2.0)])
    assert (component.name, component.weight, component.source) == ("f", 2.0, "rewards_of_this_folder:f")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"components": [ComponentConfig(function="brevity")]}, r"components\[0\]\.function must be module:function"),
        ({"components": [ComponentConfig(function="a:f", weight=math.nan)]}, r"\[0\]\.weight must be a finite"),
        ({"components": [ComponentConfig(function="a:f", name="a b")]}, r"components\[0\]\.name must be letters"),
        ({"components": [ComponentConfig(function="a:recall")]}, r"components\[0\]\.name: 'recall' is taken"),
        ({"components": [ComponentConfig(function="a:failure")]}, r"components\[0\]\.name: 'failure' is taken"),
        ({"components": [ComponentConfig(function=f"{module}:f") for module in "ab"]}, r"\[1\]\.name: 'f' is taken"),
        ({"on_component_error": "ignore"}, "on_component_error must be stop or count, got 'ignore'"),
        ({"num_processes": 0}, "num_processes must be at least 1"),
        ({"timeout_seconds": 0}, "timeout_seconds must be above 0, got 0"),
    ],
)  # fmt: skip
def test_a_config_without_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardConfig(**changes)
