"""What engines and learner ranks may be, for each way of placing them on GPUs (`cluster.layout`)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medvie_rl.config import Config


def takes_turns(config: "Config") -> bool:
    """Whether engines and learner share GPUs and take turns with their memory."""
    return config.rollout.sleep_while_learning or config.learner.offload_while_sampling


def check_layout(config: "Config") -> None:
    """Raise ValueError for engines and learner ranks that do not go with `cluster.layout`."""
    layout, num_ranks = config.cluster.layout, config.learner.num_ranks
    size, num_engines = config.rollout.tensor_parallel_size, config.rollout.num_workers
    if layout == "cpu" and size > 1:
        raise ValueError(
            f"rollout.tensor_parallel_size: {size} needs as many GPUs for each engine, got cluster.layout cpu; set "
            "cluster.layout=split or colocated"
        )
    if layout == "colocated" and num_ranks != num_engines * size:
        raise ValueError(
            f"learner.num_ranks: with cluster.layout colocated every GPU of an engine has a rank, got {num_ranks} "
            f"ranks; {num_engines} engines (rollout.num_workers) × {size} (rollout.tensor_parallel_size) are "
            f"{num_engines * size} GPUs"
        )
    if takes_turns(config) and layout != "colocated":
        raise ValueError(
            "rollout.sleep_while_learning and learner.offload_while_sampling lend GPU memory to each other; with "
            f"cluster.layout {layout} no GPU has both: set both to false, or cluster.layout=colocated"
        )
    if takes_turns(config) and config.pipeline_depth:
        raise ValueError(
            f"pipeline_depth: {config.pipeline_depth} lets engines sample while the learner works, but with "
            "rollout.sleep_while_learning or learner.offload_while_sampling they take turns; set it to 0"
        )
