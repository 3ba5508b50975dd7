"""Hugging Face's Trainer, with the callback that Ray ships for it; the model is made from a configuration."""

import torch
from epoch_notes import note
from ray import train as ray_train
from ray import tune
from ray.train.huggingface.transformers import RayTrainReportCallback
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


class Note(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **more):
        note(round(state.epoch) + 1)


def train(config):
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(0, 50, (64, 8), generator=draw)
    data = [{"input_ids": each, "labels": int(each[0] > 25)} for each in words]
    torch.manual_seed(0)
    tiny = DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=1, n_heads=2, max_position_embeddings=8)
    arguments = TrainingArguments(
        output_dir="output", num_train_epochs=6, learning_rate=config["lr"], per_device_train_batch_size=32,
        eval_strategy="epoch", save_strategy="epoch", save_total_limit=1, logging_strategy="no", report_to=[],
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model=DistilBertForSequenceClassification(tiny), args=arguments, train_dataset=data, eval_dataset=data,
        callbacks=[Note(), RayTrainReportCallback()],
    )  # fmt: skip
    if checkpoint := ray_train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            trainer.train(resume_from_checkpoint=f"{folder}/checkpoint")
    else:
        trainer.train()


# For raysweep, instead of the Tuner.
SPACE = {"lr": tune.loguniform(1e-4, 1e-2)}
METRIC, MODE, MAX_ITERATIONS = "eval_loss", "min", 6
