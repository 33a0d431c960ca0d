"""Configuration: every shipped file is valid, mistakes are errors that name the key and the remedy."""

from pathlib import Path

import pytest
import yaml

from medvie_rl.config import BEST_METRICS, load_config, to_yaml
from medvie_rl.errors import ConfigError
from medvie_rl.plan import describe_plan

LOCAL = Path("conf/local.yaml")


@pytest.mark.parametrize("path", sorted(Path("conf").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_file_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(saved) == config


@pytest.mark.parametrize("path", sorted(Path("conf/sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_runs_of_a_sweep_can_be_started(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    program = [part for part in sweep["command"] if not part.startswith("$")]
    assert program[:4] == ["python", "-m", "medvie_rl", "train"] and program[4] == "--config"
    for end in ("min", "max"):
        chosen = [
            f"{name}={values['values'][0 if end == 'min' else -1] if 'values' in values else values[end]}"
            for name, values in sweep["parameters"].items()
        ]
        load_config(Path(program[5]), [*program[6:], *chosen])
    kind, _, name = sweep["metric"]["name"].partition("/")
    assert kind == "eval" and name.removeprefix("best_") in BEST_METRICS


def test_overrides_win_over_the_file() -> None:
    config = load_config(LOCAL, ["num_steps=7", "learner.learning_rate=1e-4", "queries.max_keys=3"])
    assert (config.num_steps, config.learner.learning_rate, config.queries.max_keys) == (7, 1e-4, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_step=3", "unknown key 'num_step'; did you mean 'num_steps'"),
        (
            "rollout.top_p=0.9",
            "For answers there are evaluation.sampling.top_p, .top_k, .min_p and evaluation.constrained",
        ),
        ("rollout.min_p=0.1", "rollout.min_p: traces for training are sampled from the policy's whole distribution"),
        ("rollout.grammar=x", "rollout.grammar: traces for training are sampled from the policy's whole distribution"),
        ("evaluation.sampling.top_k=-3", "sampling.top_k must be 0 for all tokens, or their number, got -3"),
        ("learner.lerning_rate=1", "did you mean 'learner.learning_rate'"),
        ("num_steps=many", "num_steps"),
        ("num_steps=0", "num_steps: expected at least 1, got 0"),
        ("num_traces=1", "at least 2 are needed, got 1"),
        ("learner.minibatches_per_step=13", "13 minibatches cannot be made of 12 groups"),
        ("learner.zero_stage=4", "learner.zero_stage must be 1, 2 or 3, got 4"),
        ("rollout.temperature=0", "rollout.temperature"),
        ("rollout.dtype=auto", "name the dtype"),
        ("rollout.max_response_tokens=512", "rollout.max_model_len"),
        ("reward.format_weight=1.5", "format_weight must be below 1"),
        ("queries.min_keys=9", "min_keys=9, max_keys=7"),
        ("queries.reasoning_fraction=0", "set evaluation.reasoning=false"),
        ("evaluation.reasoning=false", "queries.reasoning_fraction below 1"),
        ("wandb.mode=never", "expected offline, online or disabled, got 'never'"),
        ("model=''", "model: name the folder"),
        ("data.path=''", "medvie data import"),
        ("checkpoint.keep=0", "at least 1"),
        ("cluster.object_store_mib=1", "80 MiB, got 1"),
        ("cluster.pin_cores=true", "cluster.pin_cores: expected one of auto, always, never, got 'True'"),
        ("rollout.omp_wait_policy=spin", "rollout.omp_wait_policy must be PASSIVE or ACTIVE, got 'spin'"),
        ("rollout.gomp_spincount=-1", "rollout.gomp_spincount must not be negative, got -1"),
        ("learner.omp_wait_policy=spin", "learner.omp_wait_policy must be one of PASSIVE, ACTIVE, got 'spin'"),
        ("learner.gomp_spincount=-1", "learner.gomp_spincount must not be negative, got -1"),
        ("nonsense", "expected key=value"),
    ],
)
def test_what_cannot_work_is_refused_when_read(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(LOCAL, [override])
    assert message in str(caught.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_config(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.yaml: not readable as YAML"):
        load_config(broken)


def test_the_plan_of_the_7b_recipe_does_its_arithmetic() -> None:
    plan = describe_plan(load_config(Path("conf/qwen2_5_vl_7b.yaml")))
    assert "8 GPUs" in plan
    assert "32 queries × 8 traces = 256 rollouts a step, 64 for each engine" in plan
    assert "ZeRO-3" in plan
