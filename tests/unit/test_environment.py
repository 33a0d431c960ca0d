"""What of the driver's environment reaches the actors."""

import pytest

from medvie_rl.environment import run_environment


def test_how_nodes_find_each_other_travels_and_secrets_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "WANDB_API_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "value")
    environment = run_environment(allow_downloads=False)
    assert environment["NCCL_SOCKET_IFNAME"] == environment["GLOO_SOCKET_IFNAME"] == "value"
    assert not {"WANDB_API_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN"} & environment.keys()
    assert environment["HF_HUB_OFFLINE"] == "1" and environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert run_environment(allow_downloads=True)["HF_HUB_OFFLINE"] == "0"
