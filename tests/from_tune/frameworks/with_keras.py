"""Keras on torch. Ray's own callback for Keras imports TensorFlow; without it, one writes these lines."""

import os
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
from epoch_notes import note
from ray import tune


class Report(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        note(epoch + 1)

    def on_epoch_end(self, epoch, logs=None):
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(Path(folder, "model.keras"))
            Path(folder, "epoch").write_text(str(epoch + 1))
            tune.report({"loss": logs["val_loss"]}, checkpoint=tune.Checkpoint.from_directory(folder))


def train(config):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(256, 4)).astype("float32")
    y = x.sum(axis=1, keepdims=True)
    begun = 0
    if checkpoint := tune.get_checkpoint():
        with checkpoint.as_directory() as folder:
            model = keras.models.load_model(Path(folder, "model.keras"))
            begun = int(Path(folder, "epoch").read_text())
        model.optimizer.learning_rate = config["lr"]
    else:
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
        model.compile(optimizer=keras.optimizers.SGD(config["lr"]), loss="mse")
    model.fit(x, y, validation_data=(x, y), initial_epoch=begun, epochs=6, verbose=0, callbacks=[Report()])


# For raysweep, instead of the Tuner.
SPACE = {"lr": tune.loguniform(1e-3, 0.3)}
METRIC, MODE, MAX_ITERATIONS = "loss", "min", 6
