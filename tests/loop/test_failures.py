"""Which ends of a trial count as its failure, and what is done then."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading

import pytest
import ray
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    UnserializableException,
    WorkerCrashedError,
)

from raysweep.errors import Corrupt, StorageError, Unavailable
from raysweep.loop.executor import Share
from raysweep.loop.failures import MOST_LOSSES, MOST_REFUSALS, Kind, Tries, kind_of, kind_of_loss, text_of
from raysweep.storage import FolderStorage
from raysweep.trial.actor import NotFinite, TrialActor, Unreported
from raysweep.trial.run import Run, TrialSpec
from tests.loop.scripted import Driver, failed

LOST = [ActorDiedError(), ActorUnavailableError("connection reset", None)]
FULL = OutOfMemoryError("the node is low on memory")
FORGIVEN = [Kind.LOST, Kind.HANG, Kind.STORAGE]


class CudaOutOfMemory(RuntimeError):
    """As torch's own, which is not imported for a name."""


CudaOutOfMemory.__name__, CudaOutOfMemory.__module__ = "OutOfMemoryError", "torch"


class HoldsALock(ValueError):
    """Cannot be pickled."""

    def __init__(self):
        super().__init__("upside down")
        self.lock = threading.Lock()


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/data")


def raised(error):
    return RayTaskError("step", "Traceback …", error, pid=1, ip="127.0.0.1", proctitle="trial")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (raised(ValueError("upside down")), Kind.EXCEPTION),
        (raised(ValueError("upside down")).as_instanceof_cause(), Kind.EXCEPTION),
        (raised(HoldsALock()), Kind.EXCEPTION),
        (UnserializableException("Traceback …"), Kind.EXCEPTION),
        (raised(Unreported("nothing")), Kind.UNREPORTED),
        (raised(NotFinite("nan")), Kind.NAN),
        (raised(MemoryError()), Kind.MEMORY),
        (raised(Unavailable("503")), Kind.STORAGE),
        (raised(StorageError("disk full")), Kind.REFUSED),
        (raised(Corrupt("changed")), Kind.REFUSED),
        (CudaOutOfMemory("CUDA out of memory"), Kind.GPU_MEMORY),
        (FULL, Kind.MEMORY),
        (NodeDiedError("gone"), Kind.NODE),
        (RayActorError(error_msg="The actor died because its node has died."), Kind.NODE),
        (RayActorError(preempted=True), Kind.NODE),
        (LOST[0], Kind.LOST),
        (LOST[1], Kind.LOST),
        (WorkerCrashedError(), Kind.LOST),
        (raised(ObjectLostError("ab" * 28, None, "")), Kind.LOST),  # the data of the task
        (raised(None), Kind.EXCEPTION),
        (TimeoutError("no node had room for it"), Kind.EXCEPTION),
        (raised(NO_SPACE), Kind.FULL),
        (raised(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))), Kind.FULL),
        (raised(OSError(errno.EACCES, os.strerror(errno.EACCES))), Kind.EXCEPTION),
        (NO_SPACE, Kind.FULL),
        (OutOfDiskError("Local disk is full"), Kind.FULL),
        (RayActorError(error_msg=f"The actor died because of an error in its creation task: {NO_SPACE}"), Kind.FULL),
    ],
)
def test_each_error_has_a_kind(error, kind):
    assert kind_of(error) is kind


@pytest.fixture(scope="module")
def error_of(private_ray, tmp_path_factory):
    """What a driver gets from a real process whose function does this."""
    place = FolderStorage(str(tmp_path_factory.mktemp("errors")))

    def run(function):
        actor = ray.remote(TrialActor).remote()
        ray.get(actor.prepare.remote(TrialSpec(lambda config: function(), place, 1)))
        error = actor.start.remote(Run("00000", {}, {}), []).future().exception(60)
        ray.kill(actor)
        return error

    return run


def test_any_exception_of_a_function_is_its_failure(error_of):
    class TwoArguments(Exception):
        def __init__(self, layer, size):
            super().__init__(f"{layer} has no {size}")

    class Locked(Exception):
        def __init__(self):
            super().__init__("has no head")
            self.lock = threading.Lock()

    def cannot_be_made_again():
        raise TwoArguments("it", "head")

    def cannot_be_sent():
        raise Locked

    for function in (cannot_be_made_again, cannot_be_sent, lambda: sys.exit("has no head")):
        error = error_of(function)
        assert kind_of(error) is Kind.EXCEPTION
        assert "has no head" in str(error)


def test_errors_of_the_kit_are_recognised(error_of):
    def away():
        raise Unavailable("503")

    assert kind_of(error_of(away)) is Kind.STORAGE
    assert kind_of(error_of(lambda: None)) is Kind.UNREPORTED


def test_a_node_without_space_is_known_behind_another_exception_and_from_a_full_store(error_of):
    def own():
        try:
            raise NO_SPACE
        except OSError as error:
            raise RuntimeError("the index cannot be written") from error

    def of_the_store():
        try:
            raise NO_SPACE
        except OSError as error:
            raise StorageError("/runs/s: the disk is full (ENOSPC)") from error

    assert kind_of(error_of(own)) is Kind.FULL
    assert kind_of(error_of(of_the_store)) is Kind.REFUSED


def test_a_process_that_is_gone_is_lost(error_of):
    assert kind_of(error_of(lambda: os.kill(os.getpid(), signal.SIGKILL))) is Kind.LOST


CRASH = "by SIGSEGV at train.py, line 3, in train"
EXIT = "by itself, with os._exit(3) at train.py, line 3, in <lambda>"


@pytest.mark.parametrize(
    ("end", "hung", "late", "kind"),
    [
        ("", False, False, Kind.LOST),
        (CRASH, False, False, Kind.LOST),
        ("by itself, with SIGKILL at train.py, line 3, in train", False, False, Kind.LOST),
        (EXIT, False, False, Kind.EXCEPTION),
        ("", True, False, Kind.HANG),
        ("", False, True, Kind.TIMEOUT),
        ("when its time was up at train.py, line 3, in train", False, False, Kind.TIMEOUT),
        (CRASH, False, True, Kind.LOST),
    ],
)
def test_a_lost_process_has_a_kind_by_what_it_noted(end, hung, late, kind):
    assert kind_of_loss(end, hung, late) is kind


def died(detail):
    """As Ray 2.60 says it."""
    ids = "\tclass_name: train\n\tactor_id: ae4b08\n\tpid: 29656\n\tnamespace: 99bc2ffa\n\tip: 127.0.0.1\n"
    start = "The actor died unexpectedly before finishing this task.\n"
    dead = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
    return RayActorError(error_msg=f"{start}{ids}{dead}{detail}")


KILLED = died(
    "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process"
    " was killed by the OOM killer due to high memory usage, (2) ray stop --force was called."
)
LOG = "/tmp/ray/logs/worker-1.err on node 10.0.0.1"


@pytest.mark.parametrize(
    ("error", "kind", "end", "log", "text"),
    [
        (KILLED, Kind.LOST, CRASH, LOG, f"the trial's process was ended {CRASH}; Ray's log of it is {LOG}"),
        (KILLED, Kind.EXCEPTION, EXIT, LOG, f"the trial's process was ended {EXIT}; Ray's log of it is {LOG}"),
        (
            KILLED,
            Kind.LOST,
            "",
            LOG,
            "the trial's process was ended from outside, and it left no word: usually by SIGKILL, from the system when"
            f" memory ran out (`dmesg` on the node tells), or from somebody; Ray's log of it is {LOG}",
        ),
        (
            died("Worker exits unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM."),
            Kind.LOST,
            "",
            "",
            "the trial's process was lost: The actor died unexpectedly before finishing this task. The actor is dead"
            " because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker exits"
            " unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM.",
        ),
        (
            KILLED,
            Kind.HANG,
            "",
            LOG,
            "the trial was silent for too long (see --report-timeout), so its process was ended; Ray's log of it is "
            + LOG,
        ),
        (
            KILLED,
            Kind.TIMEOUT,
            "when its time was up at train.py, line 3, in train",
            "",
            "the trial had used up --trial-timeout, so its process was ended at train.py, line 3, in train",
        ),
        (
            OutOfMemoryError("Memory on the node was 15 GB / 16 GB. Ray killed this worker; to see more information …"),
            Kind.MEMORY,
            "",
            "",
            "the trial's process was lost: Memory on the node was 15 GB / 16 GB. Ray killed this worker",
        ),
        (WorkerCrashedError(), Kind.LOST, CRASH, "", f"the trial's process was ended {CRASH}"),
        (TimeoutError("no node had room for it"), Kind.EXCEPTION, "", "", "TimeoutError: no node had room for it"),
    ],
)
def test_a_lost_process_is_told_in_one_paragraph(error, kind, end, log, text):
    assert text_of(error, kind, end, log) == text


def test_a_traceback_has_no_colours():
    error = raised(ValueError("upside down"))
    error.traceback_str = 'Traceback (most recent call last):\n  File "train.py", line 3, in train\nValueError: upside'
    assert "\x1b" in str(error)
    assert text_of(error, Kind.EXCEPTION).startswith("trial() (pid=1, ip=127.0.0.1)\n  File")


@pytest.mark.parametrize(("host", "node"), [("10.0.0.3", "10.0.0.3"), ("", "of the trial")])
def test_a_node_without_space_is_named_with_the_setting(host, node):
    told = text_of(raised(NO_SPACE), Kind.FULL, worker=1, host=host).splitlines()
    assert told[-1] == (
        f"worker 1: node {node} has no space left, which is no failure of the trial: free some there, or give it more"
        " (docker: RAYSWEEP_TMP=8g raysweep cluster up --target docker)"
    )
    assert len(told) > 1


def tries(share=Share(1.0), max_failures=0, largest=None):  # noqa: B008 - never changed
    return Tries(share, {"cpus": 4, "gpus": 1} if largest is None else largest, max_failures)


@pytest.mark.parametrize("kind", [*FORGIVEN, Kind.FULL])
def test_a_lost_process_or_a_store_that_is_away_is_forgiven(kind):
    trial = tries()
    assert [trial.failed(kind) for _ in range(MOST_LOSSES)] == [True] * MOST_LOSSES
    assert not trial.failed(kind), "a function that crashes its process again and again has failed"


def test_uncounted_losses_share_one_limit():
    trial = tries()
    assert [trial.failed(kind) for kind in (*FORGIVEN, Kind.LOST)] == [True, True, True, False]


def test_a_lost_node_is_never_counted():
    trial = tries()
    assert all(trial.failed(Kind.NODE) for _ in range(3 * MOST_LOSSES))


@pytest.mark.parametrize("kind", [Kind.EXCEPTION, Kind.UNREPORTED, Kind.TIMEOUT])
def test_an_error_of_the_function_is_counted(kind):
    trial = tries(max_failures=1)
    assert [trial.failed(kind), trial.failed(kind)] == [True, False]


def test_nan_is_not_tried_again():
    assert not tries(max_failures=5).failed(Kind.NAN)


def test_a_storage_that_refuses_keeps_the_trial_for_a_resume():
    trial = tries()
    for refuses in (*[False] * MOST_REFUSALS, True):
        assert (trial.failed(Kind.REFUSED), trial.storage_refuses) == (True, refuses)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (Kind.MEMORY, Share(1.0), Share(2.0)),
        (Kind.MEMORY, Share(3.0), Share(4.0)),
        (Kind.MEMORY, Share(0.5, 0.2), Share(1.0, 0.2)),
        (Kind.GPU_MEMORY, Share(1.0, 0.2), Share(1.0, 0.4)),
        (Kind.GPU_MEMORY, Share(0.0, 0.75), Share(0.0, 1.0)),
    ],
)
def test_out_of_memory_is_tried_once_with_twice_as_much(kind, before, after):
    trial = tries(before)
    assert (trial.failed(kind), trial.infeasible, trial.share) == (True, False, after)
    assert (trial.failed(kind), trial.infeasible, trial.share) == (False, True, after)


@pytest.mark.parametrize("largest", [{"cpus": 4}, {}])
def test_a_trial_that_has_all_of_a_node_is_infeasible_at_once(largest):
    trial = tries(Share(4.0), max_failures=5, largest=largest)
    assert (trial.failed(Kind.MEMORY), trial.infeasible) == (False, True)


def test_a_driver_that_starts_again_counts_on():
    trial = tries(max_failures=1)
    trial.remember(["lost", "exception", "memory", "node", "refused"])
    assert trial.share == Share(2.0)
    assert [trial.failed(Kind.LOST) for _ in range(MOST_LOSSES - 1)] == [True] * (MOST_LOSSES - 1)
    assert not trial.failed(Kind.EXCEPTION)


def test_refusals_of_an_earlier_driver_do_not_count():
    trial = tries()
    trial.remember(["refused"] * (MOST_REFUSALS + 1))
    assert not trial.storage_refuses
    assert (trial.failed(Kind.REFUSED), trial.storage_refuses) == (True, False)


@pytest.fixture
def driver(tmp_path):
    """A driver of one trial at a time, whose nodes have four CPUs."""
    begun = []

    def begin(**plan):
        settings = {"total": 1, "concurrency": 1, "largest": {"cpus": 4.0}, **plan}
        begun.append(Driver(FolderStorage(str(tmp_path)), **settings))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


def kinds(driver):
    return driver.state.trials["00000"].kinds


@pytest.mark.parametrize(("timeout", "kind", "status"), [(5.0, "timeout", "failed"), (3600.0, "lost", "pending")])
def test_a_process_that_was_ended_because_its_time_was_up_is_a_failure(driver, timeout, kind, status):
    only = driver(timeout=timeout)
    only.run(10.0, failed("00000"))
    assert (kinds(only), only.status("00000")) == ([kind], status)


def test_the_time_of_a_trial_is_what_it_ran_and_not_what_it_waited(driver):
    first = driver(timeout=15.0)
    first.run(first.reported("00000", 8))  # after 8 s, as it says
    second = driver(timeout=15.0)
    second.run(6.0, failed("00000"), 8.0, failed("00000"))
    assert kinds(second) == ["lost", "timeout"]


def test_a_silent_trial_is_ended_once_and_hung(driver, capsys):
    only = driver(report_timeout=30.0)
    only.run(29.0, 1.0, 1.0)
    assert only.executor.killed == ["00000"]
    assert (kinds(only), only.started) == (["hang"], ["00000", "00000"])
    assert capsys.readouterr().out == "trial 00000 has been silent for 30 s: its process is ended\n"


def test_one_that_hung_and_is_lost_later_has_hung_once(driver):
    only = driver(report_timeout=30.0)
    only.run(31.0, failed("00000"))
    assert kinds(only) == ["hang", "lost"]


def test_a_trial_that_ran_out_of_memory_starts_again_with_more(driver):
    only = driver()
    only.run(failed("00000", FULL), failed("00000", FULL))
    assert only.executor.shares == [None, Share(2.0)]
    assert (kinds(only), only.status("00000")) == (["memory", "memory"], "infeasible")


def test_a_storage_that_refuses_ends_the_sweep_and_no_trial(driver):
    only = driver()
    only.run(*[failed("00000", raised(StorageError("the disk is full")))] * (MOST_REFUSALS + 1))
    assert only.loop.limits.refused == "the disk is full"
    assert only.status("00000") == "pending"


def test_which_of_several_workers_failed_is_told_where_the_error_is():
    error = raised(ValueError("upside down"))
    error.traceback_str = 'Traceback (most recent call last):\n  File "train.py", line 3, in train\nValueError: upside'
    assert text_of(error, Kind.EXCEPTION, worker=1).splitlines()[-1] == "worker 1: ValueError: upside"
    assert text_of(KILLED, Kind.LOST, "by SIGSEGV", worker=0) == "worker 0: the trial's process was ended by SIGSEGV"
