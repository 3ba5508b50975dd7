"""What a training function's source says that it reports; a right function is never refused for what cannot be read."""

import functools
from types import SimpleNamespace

import pytest
from ray import train as ray_train
from ray import tune
from ray.tune.examples.tune_basic_example import easy_objective

import raysweep
import raysweep as rs
from raysweep import report
from raysweep.spec.reports import Reports, reports


class Tracker:
    """An experiment tracker, such as there are many: its `report` is not the sweep's."""

    def report(self, values):
        return values


tracker = Tracker()


def literal(config):
    for _ in range(3):
        raysweep.report({"loss": 1.0, "accuracy": 0.5})


def several_calls_with_state(config):
    report({"loss": 1.0})
    tune.report({"accuracy": 1.0, "loss": 2.0}, state={"epoch": 1})


def other_names(config):
    import ray.tune as rt

    from raysweep import report as tell

    rs.report({"a": 1})
    tell({"b": 1})
    rt.report({"c": 1})
    ray_train.report({"d": 1})


def positional_state(config):
    report({"loss": 1.0}, {"epoch": 1})


def folder(config):
    raysweep.report({"loss": 1.0}, checkpoint="here")


def folder_of_ray(config):
    tune.report({"loss": 1.0}, checkpoint=tune.Checkpoint.from_directory("here"))


def keywords(config):
    report(metrics={"loss": 1.0}, state=None)


def keywords_the_other_way_round(config):
    report(state={"epoch": 1}, metrics={"loss": 1.0})


def only_state(config):
    report(state={"epoch": 1})


def variable(config):
    metrics = {"loss": 1.0}
    report(metrics)


def computed_key(config):
    report({"loss": 1.0, config["name"]: 2.0})


def merged(config):
    report({**config, "loss": 1.0})


def called(config):
    report(dict(loss=1.0))  # noqa: C408


def literal_and_variable(config):
    report({"loss": 1.0})
    report(config, state=config)


def options(config):
    report(**config)


def nowhere(config):
    pass


def elsewhere(config):
    literal(config)


def nested(config):
    def tell(loss):
        raysweep.report({"loss": loss})

    class Callback:
        def on_epoch(self):
            raysweep.report({"accuracy": 1.0})

    tell(1.0)
    Callback().on_epoch()


def a_tracker_of_the_module(config):
    tracker.report({"epoch": 1})
    raysweep.report({"loss": 1.0})


def a_tracker_that_was_given(config):
    config["tracker"].report({"epoch": 1})
    raysweep.report({"loss": 1.0})


def a_tracker_of_its_own(config):
    mine = SimpleNamespace(report=raysweep.report)
    mine.report({"epoch": 1})
    raysweep.report({"loss": 1.0})


def a_name_of_its_own(config):
    tell = raysweep.report
    tell({"epoch": 1})
    raysweep.report({"loss": 1.0})


def a_callback(config):
    literal(config)
    map(raysweep.report, [{"epoch": 1}])


def log(metrics):
    raysweep.report(metrics)


def a_helper(config):
    log({"epoch": 1})
    raysweep.report({"loss": 1.0})


def a_default(config, tell=raysweep.report):
    tell({"epoch": 1})
    raysweep.report({"loss": 1.0})


def undefined(config):
    reporter.report({"loss": 1.0})  # noqa: F821


class Trainer:
    def __init__(self, tell=raysweep.report):
        self.tell = tell

    def __call__(self, config):
        raysweep.report({"loss": 1.0})

    def train(self, config):
        self._log(1.0)

    def _log(self, loss):
        raysweep.report({"loss": loss})

    @staticmethod
    def alone(config):
        raysweep.report({"loss": 1.0})

    @classmethod
    def of_class(cls, config):
        cls.alone(config)

    def told(self, config):
        self.tell({"accuracy": 1.0})

    def unknown(self, config):
        self.report({"epoch": 1})
        raysweep.report({"loss": 1.0})


class Saving:
    def __call__(self, config):
        self.report({"loss": 1.0})

    def report(self, metrics):
        raysweep.report(metrics, state=metrics)


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        function(*args, **kwargs)
        raysweep.report({"seconds": 1.0})

    return wrapper


@logged
def decorated(config):
    raysweep.report({"loss": 1.0})


def captured(tell):
    def train(config):
        tell({"loss": 1.0})

    return train


lambda_of_a_line = lambda config: raysweep.report({"loss": 1.0})  # noqa: E731
OPEN = (None, None)


@pytest.mark.parametrize(
    ("train", "metrics", "state"),
    [
        (literal, ("loss", "accuracy"), False),
        (several_calls_with_state, ("loss", "accuracy"), True),
        (other_names, ("a", "b", "c", "d"), False),
        (positional_state, ("loss",), True),
        (folder, ("loss",), True),
        (folder_of_ray, ("loss",), True),
        (keywords, ("loss",), True),
        (keywords_the_other_way_round, ("loss",), True),
        (only_state, None, True),
        (variable, None, False),
        (computed_key, None, False),
        (merged, None, False),
        (called, None, False),
        (literal_and_variable, None, True),
        (options, None, True),
        (nowhere, *OPEN),
        (elsewhere, ("loss", "accuracy"), False),
        (nested, ("loss", "accuracy"), False),
        (a_tracker_of_the_module, ("loss",), False),
        (a_tracker_that_was_given, *OPEN),
        (a_tracker_of_its_own, *OPEN),
        (a_name_of_its_own, *OPEN),
        (a_callback, *OPEN),
        (a_helper, None, False),
        (a_default, *OPEN),
        (undefined, *OPEN),
        (functools.partial(literal, {}), ("loss", "accuracy"), False),
        (functools.partial(literal, tell=raysweep.report), *OPEN),
        (Trainer.alone, ("loss",), False),
        (Trainer.of_class, ("loss",), False),
        (Trainer().train, ("loss",), False),
        (Trainer().told, ("accuracy",), False),
        (Trainer().unknown, *OPEN),
        (Saving(), None, True),
        (decorated, ("seconds", "loss"), False),
        (captured(raysweep.report), ("loss",), False),
        (captured(tracker.report), *OPEN),
        (lambda_of_a_line, ("loss",), False),
        (functools.cache(literal), ("loss", "accuracy"), False),
        (print, *OPEN),
        (5, *OPEN),
    ],
)
def test_reports_are_read_from_the_source(train, metrics, state):
    found = reports(train)
    assert (found.metrics, found.state) == (metrics, state)


def of_ray(config):
    tune.report({"loss": config["x"], "training_iteration": 3, "done": True})


def with_a_checkpoint(config):
    tune.report({"loss": 1.0}, checkpoint=None)


def with_a_callback(config):
    from ray.tune.integration.lightgbm import TuneReportCheckpointCallback

    TuneReportCheckpointCallback()


class Callback:
    def on_end(self):
        ray_train.report({"loss": 1.0})


def with_a_callback_of_its_own(config):
    Callback()


class Saved(tune.Trainable):
    def save_checkpoint(self, checkpoint_dir):
        pass


class Unsaved(tune.Trainable):
    pass


@pytest.mark.parametrize(
    ("train", "found"),
    [
        (of_ray, Reports(("loss",), False, True)),
        (with_a_checkpoint, Reports(("loss",), True, True)),
        (with_a_callback, Reports(None, None, True)),
        (with_a_callback_of_its_own, Reports(("loss",), False, True)),
        (tune.with_parameters(of_ray, x=1), Reports(("loss",), False, True)),
        (easy_objective, Reports(None, None, True)),
        (Saved, Reports(None, True, True)),
        (Unsaved, Reports(None, False, True)),
        (tune.with_resources(Saved, {"cpu": 1}), Reports(None, True, True)),
        (literal, Reports(("loss", "accuracy"), False, False)),
    ],
)
def test_code_for_ray_tune_is_known_by_what_it_names(train, found):
    assert reports(train) == found


def test_a_method_is_read_though_it_is_indented():
    class Local:
        def train(self, config):
            report({"loss": 1.0})

    assert reports(Local().train) == Reports(("loss",), False)


def test_a_function_whose_source_is_gone_says_nothing():
    namespace = {"raysweep": raysweep}
    exec("def train(config):\n    raysweep.report({'loss': 1.0})\n", namespace)
    assert reports(namespace["train"]) == Reports(None, None)
