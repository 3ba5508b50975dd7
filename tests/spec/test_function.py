"""Training functions in all their forms: what they are called, which are refused, and where their data go."""

import functools
from types import SimpleNamespace

import pytest
from ray import cloudpickle, tune

from raysweep.driver.runner import code_hash
from raysweep.spec.function import name_of, plain, problems, saves, takes_data, unwrapped, with_data

GIVEN = {}


def seen(**values):
    """What a function was called with."""
    GIVEN.clear()
    GIVEN.update(values)


def only_config(config):
    seen(config=config)


def with_option(config, augment=True):
    seen(config=config, augment=augment)


def with_switch(config, *, verbose=False):
    seen(config=config, verbose=verbose)


def with_options(config, **options):
    seen(config=config, **options)


def with_more(config, *more):
    seen(config=config, more=more)


def data_second(config, data):
    seen(config=config, data=data)


def data_if_any(config, data="its own"):
    seen(config=config, data=data)


def data_by_keyword(config, *, data):
    seen(config=config, data=data)


def data_of_another_name(config, dataset):
    seen(config=config, data=dataset)


def data_by_position(config, dataset, /):
    seen(config=config, data=dataset)


def data_after_an_option(config, augment=True, data=None):
    seen(config=config, augment=augment, data=data)


def data_after_more(config, *more, dataset):
    seen(config=config, more=more, data=dataset)


def option_and_data(config, dataset, augment=True):
    seen(config=config, data=dataset, augment=augment)


def logged(train):
    @functools.wraps(train)
    def wrapper(*args, **kwargs):
        train(*args, **kwargs)

    return wrapper


def by_position(train):
    @functools.wraps(train)
    def wrapper(*args):
        train(*args)

    return wrapper


def with_own_data(train):
    @functools.wraps(train)
    def wrapper(config):
        train(config, "its own")

    return wrapper


class Trainer:
    def __call__(self, config):
        seen(config=config)

    def method(self, config, data):
        seen(config=config, data=data)

    @staticmethod
    def static(config):
        seen(config=config)

    @classmethod
    def of_class(cls, config, data):
        seen(config=config, data=data)


class Eager:
    def __call__(self, config, data):
        seen(config=config, data=data)


# What is called, its name, and what it is called with: without data, and with some.
RIGHT = {
    "one parameter": (only_config, "only_config", {}, {}),
    "lambda": (lambda config: seen(config=config), "lambda", {}, {}),
    "partial": (functools.partial(with_option, augment=False), "with_option", {"augment": False}, {"augment": False}),
    "partial of a partial": (functools.partial(functools.partial(only_config)), "only_config", {}, {}),
    "partial with data": (functools.partial(data_second, data=1), "data_second", {"data": 1}, {"data": "D"}),
    "object": (Trainer(), "Trainer", {}, {}),
    "object with data": (Eager(), "Eager", {"data": None}, {"data": "D"}),
    "method": (Trainer().method, "method", {"data": None}, {"data": "D"}),
    "static method": (Trainer.static, "static", {}, {}),
    "class method": (Trainer.of_class, "of_class", {"data": None}, {"data": "D"}),
    "decorated": (logged(only_config), "only_config", {}, {}),
    "decorated with data": (logged(data_second), "data_second", {"data": None}, {"data": "D"}),
    "decorated by position": (by_position(data_second), "data_second", {"data": None}, {"data": "D"}),
    "decorated, its own data": (with_own_data(data_second), "data_second", {"data": "its own"}, {"data": "its own"}),
    "an option": (with_option, "with_option", {"augment": True}, {"augment": True}),
    "a switch": (with_switch, "with_switch", {"verbose": False}, {"verbose": False}),
    "any options": (with_options, "with_options", {}, {}),
    "any more": (with_more, "with_more", {"more": ()}, {"more": ()}),
    "data": (data_second, "data_second", {"data": None}, {"data": "D"}),
    "data if any": (data_if_any, "data_if_any", {"data": "its own"}, {"data": "D"}),
    "data by keyword": (data_by_keyword, "data_by_keyword", {"data": None}, {"data": "D"}),
    "another name": (data_of_another_name, "data_of_another_name", {"data": None}, {"data": "D"}),
    "by position only": (data_by_position, "data_by_position", {"data": None}, {"data": "D"}),
    "after an option": (
        data_after_an_option, "data_after_an_option",
        {"augment": True, "data": None}, {"augment": True, "data": "D"},
    ),
    "after any more": (data_after_more, "data_after_more", {"more": (), "data": None}, {"more": (), "data": "D"}),
    "before an option": (
        option_and_data, "option_and_data", {"augment": True, "data": None}, {"augment": True, "data": "D"},
    ),
}  # fmt: skip
every_form = pytest.mark.parametrize("form", RIGHT)


@every_form
def test_it_has_a_name_and_may_be_sent_to_a_worker(form):
    train, name, _, _ = RIGHT[form]
    assert (name_of(train), problems(train)) == (name, [])
    assert name_of(cloudpickle.loads(cloudpickle.dumps(train))) == name


@every_form
def test_data_go_where_they_are_wanted_and_nowhere_else(form):
    train, _, without, with_some = RIGHT[form]
    with_data(train, None)({"lr": 1})
    assert {"config": {"lr": 1}} | without == GIVEN
    with_data(train, "D")({"lr": 1})
    assert {"config": {"lr": 1}} | with_some == GIVEN
    assert takes_data(train) == (with_some.get("data") == "D")


@every_form
def test_its_code_is_that_of_its_file(form):
    train = RIGHT[form][0]
    assert plain(train).__code__.co_filename == __file__
    assert code_hash(train) == code_hash(only_config)


def nothing():
    pass


def keywords_only(*, config):
    pass


def two_more(config, a, b):
    pass


def one_beside_data(config, data, depth):
    pass


async def asynchronous(config):
    pass


def generator(config):
    yield 1


async def asynchronous_generator(config):
    yield 1


class AsyncCall:
    async def __call__(self, config):
        pass


NO_CONFIG = ["has no parameter for the configuration: make it `train(config)`"]
ASYNC = ["is async, so that calling it runs nothing: give a function `train(config)` that calls raysweep.report"]
FIX = "give a default, or use functools.partial"


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (nothing, NO_CONFIG),
        (keywords_only, NO_CONFIG),
        (functools.partial(only_config, config={}), NO_CONFIG),
        (two_more, [f"also wants `a` and `b`, and is given configuration and `data`: {FIX}"]),
        (functools.partial(two_more, b=1), []),
        (one_beside_data, [f"also wants `depth`, and is given configuration and `data`: {FIX}"]),
        (asynchronous, ASYNC),
        (functools.partial(asynchronous), ASYNC),
        (AsyncCall(), ASYNC),
        (asynchronous_generator, ASYNC),
    ],
)
def test_what_no_trial_can_call_says_which_parameter(train, told):
    assert problems(train) == told


@pytest.mark.parametrize(
    ("train", "told"),
    [
        (Trainer, "is a class, which is made when it is called, and not run"),
        (print, "is Python's own `print`, which reports nothing"),
        (5, "is of type int, which cannot be called"),
        (SimpleNamespace(), "is of type SimpleNamespace, which cannot be called"),
        (functools.partial(max), "does not say which parameters it has"),
    ],
)
def test_so_does_what_is_no_function(train, told):
    [problem] = problems(train)
    assert problem.startswith(told)


class OfTune(tune.Trainable):
    def setup(self, config, data=None):
        pass

    def save_checkpoint(self, checkpoint_dir):
        pass


class Unsaved(tune.Trainable):
    pass


class Bound:
    def train(self, config, data=None):
        pass


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        (OfTune, OfTune),
        (generator, generator),
        (tune.with_parameters(OfTune, data=1), OfTune),
        (tune.with_resources(OfTune, {"cpu": 2}), OfTune),
        (tune.with_resources(tune.with_parameters(OfTune, data=1), {"cpu": 2}), OfTune),
        (tune.with_parameters(with_option, augment=False), with_option),
        (tune.with_parameters(tune.with_resources(with_options, {"cpu": 2}), data=1), with_options),
        (tune.with_resources(Bound().train, {"cpu": 2}), Bound.train),
    ],
)
def test_what_ray_tune_runs_is_taken_and_what_is_in_it_is_found(given, inside):
    assert problems(given) == []
    assert not takes_data(given)
    assert getattr(unwrapped(given), "__func__", unwrapped(given)) is inside
    assert plain(given) is inside
    assert code_hash(given) == code_hash(inside)
    assert with_data(given, None) is given


def test_a_class_of_ray_tune_may_be_one_that_cannot_be_saved():
    assert [saves(OfTune), saves(tune.with_resources(OfTune, {"cpu": 1})), saves(Unsaved)] == [True, True, False]
