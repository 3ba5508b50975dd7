"""Lightning, with the callback that Ray ships for it."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from epoch_notes import note
from ray import tune
from ray.tune.integration.pytorch_lightning import TuneReportCheckpointCallback
from torch.utils.data import DataLoader, TensorDataset


class Line(pl.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.lr, self.layer = lr, torch.nn.Linear(4, 1)

    def loss(self, batch):
        x, y = batch
        return torch.nn.functional.mse_loss(self.layer(x), y)

    def training_step(self, batch, index):
        return self.loss(batch)

    def validation_step(self, batch, index):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Note(pl.Callback):
    def on_train_epoch_start(self, trainer, module):
        note(trainer.current_epoch + 1)


def train(config):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(256, 4, generator=draw)
    data = DataLoader(TensorDataset(x, x.sum(dim=1, keepdim=True)), batch_size=64)
    trainer = pl.Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[Note(), TuneReportCheckpointCallback({"loss": "val_loss"}, on="train_epoch_end")],
    )
    begun = None
    if checkpoint := tune.get_checkpoint():
        begun = Path(checkpoint.to_directory(), "checkpoint")
    trainer.fit(Line(config["lr"]), data, data, ckpt_path=begun, weights_only=False)


# For raysweep, instead of the Tuner.
SPACE = {"lr": tune.loguniform(1e-3, 0.3)}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 6
