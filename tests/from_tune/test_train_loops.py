"""A function that was written for Ray Train's workers, as it stands: with two workers a trial it is given to `run`."""

import tempfile
from pathlib import Path

from ray import tune

import raysweep

EPOCHS, EXAMPLES, BAD_EPOCH = 4, 64, 3


def train_loop_per_worker(config):
    import ray.train.collective
    import ray.train.torch
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    context = ray.train.get_context()
    rank = context.get_world_rank()
    torch.manual_seed(rank)
    model = ray.train.torch.prepare_model(nn.Linear(4, 1))
    inputs = torch.randn(EXAMPLES, 4, generator=torch.Generator().manual_seed(0))
    examples = TensorDataset(inputs, inputs.sum(1, keepdim=True))
    loader = ray.train.torch.prepare_data_loader(DataLoader(examples, batch_size=8, shuffle=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    start = 0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            saved = torch.load(Path(folder, "model.pt"))
        model.load_state_dict(saved["model"])
        start = saved["epoch"]
    for epoch in range(start + 1, EPOCHS + 1):
        loader.sampler.set_epoch(epoch)
        seen = 0
        for batch, labels in loader:
            loss = nn.functional.mse_loss(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += len(batch)
        bad = Path(config["folder"], "was bad")
        if rank == 1 and epoch == BAD_EPOCH and not bad.exists():
            bad.touch()
            raise ValueError("upside down")
        weights = model.module.weight.detach()
        apart = float((ray.train.collective.broadcast_from_rank_zero(weights) - weights).abs().max())
        ray.train.collective.barrier()
        metrics = {"loss": loss.item(), "seen": seen, "size": context.get_world_size(), "began": start, "apart": apart}
        with tempfile.TemporaryDirectory() as folder:
            if rank == 0:
                torch.save({"model": model.state_dict(), "epoch": epoch}, Path(folder, "model.pt"))
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
            else:
                ray.train.report(metrics)


def test_a_train_loop_runs_in_all_workers_and_goes_on_from_its_checkpoint(private_ray, storage, tmp_path):
    space = {"lr": tune.uniform(0.01, 0.1), "folder": str(tmp_path)}
    sweep_results = raysweep.run(
        "random_search", train_loop_per_worker, space, metric="loss", mode="min", samples=1, max_iterations=EPOCHS,
        max_failures=1, workers_per_trial=2, storage=storage, name="loops",
    )  # fmt: skip
    [trial] = sweep_results.state.trials.values()
    assert (trial.status, trial.kinds) == ("finished", ["exception"])
    assert trial.failures[0].splitlines()[-1] == "worker 1: ValueError: upside down"
    results = [result.metrics for _, result in sorted(trial.results.items())]
    assert [each["began"] for each in results] == [0, 0, BAD_EPOCH - 1, BAD_EPOCH - 1], "no epoch was repeated"
    assert {(each["seen"], each["size"], each["apart"]) for each in results} == {(EXAMPLES // 2, 2, 0.0)}
