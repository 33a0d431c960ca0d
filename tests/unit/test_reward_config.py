"""The reward's part of the configuration, as files and overrides write it."""

from pathlib import Path

import pytest

from medvie_rl.config import load_config, to_yaml
from medvie_rl.errors import ConfigError
from medvie_rl.plan import describe_plan
from rewards.config import ComponentConfig

LOCAL = Path("conf/local.yaml")
BREVITY = "reward.components=[{function: my_rewards:brevity, weight: 0.2}, {function: my.rewards:f, name: tone}]"


def test_components_from_an_override_survive_a_round_trip(tmp_path: Path) -> None:
    config = load_config(LOCAL, [BREVITY, "reward.f_beta=2", "reward.on_component_error=count"])
    assert config.reward.components == [
        ComponentConfig(function="my_rewards:brevity", weight=0.2, name="brevity"),
        ComponentConfig(function="my.rewards:f", weight=1.0, name="tone"),
    ]
    assert (config.reward.f_beta, config.reward.on_component_error) == (2.0, "count")
    saved = tmp_path / "config.yaml"
    saved.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(saved) == config
    assert load_config(saved, ["reward.f_beta=null", "reward.components=[]"]).reward == load_config(
        LOCAL, ["reward.on_component_error=count"]
    ).reward  # fmt: skip
    assert "1 scoring processes, brevity × 0.2, tone × 1" in describe_plan(config)


def test_components_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    own = "reward:\n  components:\n    - function: my_rewards:brevity\n      weight: 0.5\n"
    path.write_text(LOCAL.read_text(encoding="utf-8") + own, encoding="utf-8")
    (component,) = load_config(path).reward.components
    assert (component.function, component.weight, component.name) == ("my_rewards:brevity", 0.5, "brevity")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reward.components=[{functon: a:f}]", "unknown key 'reward.components[0].functon'; did you mean"),
        ("reward.components=[{function: a:f}, {function: b:g, wieght: 2}]", "'reward.components[1].wieght'"),
        ("reward.components=[{function: a}]", "reward.components[0].function must be module:function, such as"),
        ("reward.components=[{weight: 2}]", "reward.components[0].function must be module:function"),
        ("reward.components=[{function: a:f}, {function: b:f}]", "reward.components[1].name: 'f' is taken"),
        ("reward.components=[{function: a:f, name: format}]", "'format' is taken by another component; built in are"),
        (
            "reward.components=[{function: a:f, weight: heavy}]",
            "reward.components[0]: expected function, weight, name, got {'function': 'a:f', 'weight': 'heavy'}",
        ),
        ("reward.components=[a:f]", "reward.components[0]: expected function, weight, name, got 'a:f'"),
        (
            "reward.components={function: a:f}",
            "reward.components: expected a list, each item with function, weight, name, got",
        ),
        ("reward.on_component_error=ignore", "reward.on_component_error must be stop or count"),
        ("reward.num_processes=4", "cluster.reward_cpus: reward.num_processes 4 needs as many CPUs, got 0.25"),
        ("reward.f_beta=-1", "reward.f_beta must be above 0"),
        ("reward.f_bta=1", "did you mean 'reward.f_beta'"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(LOCAL, [override])
    assert message in str(caught.value)
