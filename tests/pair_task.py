"""A task for two workers: a linear model that they train together, by torch's own means and variables.

It reports how far apart their weights are, and what Ray says of the places of trials meanwhile. With a folder as
`notes` in its configuration, each worker notes there which iteration it begins: trial, iteration, rank, process, node
and port.
"""

import os
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util import placement_group_table

import raysweep
from raysweep.trial import session

SPACE = {"lr": tune.uniform(0.01, 0.1)}
METRIC, MODE = "loss", "min"
MAX_ITERATIONS = 8
MUTABLE = ("lr",)
PACE_S = 0.15


def train(config: dict[str, Any]) -> None:
    """One worker of one trial; its state is the model, and all iterations that led to it."""
    import torch
    from torch import distributed, nn

    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    assert (str(rank), str(size)) == (os.environ["RANK"], os.environ["WORLD_SIZE"])
    torch.manual_seed(rank)  # other weights in each worker, until DDP gives all of them those of the first
    model = nn.parallel.DistributedDataParallel(nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    state = raysweep.resume() or {"model": model.state_dict(), "path": []}
    model.load_state_dict(state["model"])
    path = list(state["path"])
    inputs = torch.randn(64, 4)  # each has examples of its own
    labels = inputs.sum(1, keepdim=True)
    for iteration in raysweep.iterations():
        _note(config, iteration)
        time.sleep(PACE_S)
        loss = nn.functional.mse_loss(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        path.append(iteration)
        weights = torch.cat([each.detach().flatten() for each in model.parameters()])
        everyones = [torch.empty_like(weights) for _ in range(size)]
        distributed.all_gather(everyones, weights)
        apart = max(float((each - weights).abs().max()) for each in everyones)
        groups = [each for each in placement_group_table().values() if each["state"] == "CREATED"]
        half = sum(not all(each["bundles_to_node_id"].values()) for each in groups)
        metrics = {"loss": float(loss), "apart": apart, "placed": len(groups), "half": half}
        raysweep.report(metrics, state={"model": model.state_dict(), "path": path})


def _note(config: dict[str, Any], iteration: int) -> None:
    if "notes" in config:
        trial, node = session._session.run.trial, ray.get_runtime_context().get_node_id()  # type: ignore[union-attr]
        with Path(config["notes"], "steps").open("a") as file:
            print(trial, iteration, os.environ["RANK"], os.getpid(), node, os.environ["MASTER_PORT"], file=file)
