"""The processes of a place answer as one: here real actors of Ray, whose answers a test chooses."""

import queue
import time

import pytest
import ray
from ray.exceptions import ActorDiedError

from raysweep.loop import crew as crews
from raysweep.loop.crew import Answered, Broken, Crew, OutOfStep
from raysweep.trial.actor import Over, Prepared
from raysweep.trial.last_words import Traces
from raysweep.trial.session import Report
from tests.waiting import PATIENCE_S

FATAL = {"dies", "hangs"}  # a process that does so is not used again


class Worker:
    """Answers what it was told to."""

    def tell(self, node="a", gpus=(), answers=()):
        self.node, self.gpus, self.answers, self.started = node, gpus, list(answers), None

    def prepare(self, spec):
        return Prepared(Traces(self.node, "host", f"/{self.node}.err"), self.gpus)

    def meeting_point(self):
        return "127.0.0.1", 4711

    def start(self, run, data, seat, meets_at):
        self.started = (seat, meets_at)
        return self.step()

    def step(self):
        answer = self.answers.pop(0)
        if answer == "dies":
            ray.actor.exit_actor()
        if answer == "hangs":
            time.sleep(1000)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def end(self, seconds):
        return Over(clean=self.node == "a")

    def seen(self):
        return self.started


@pytest.fixture(scope="module")
def processes(private_ray):
    """Those that wait for a crew; to start one takes longer than a test."""
    waiting = []
    yield waiting
    for each in waiting:
        ray.kill(each)


@pytest.fixture
def crew(processes):
    """Makes a crew of these workers."""
    made = []

    def make(*workers):
        actors = [processes.pop() if processes else ray.remote(num_cpus=0)(Worker).remote() for _ in workers]
        ray.get([actor.tell.remote(**each) for actor, each in zip(actors, workers, strict=True)])
        made.append(Crew(actors))
        assert isinstance(call(made[-1].prepare, None), Answered)
        if not any(FATAL & {str(each) for each in worker.get("answers", ())} for worker in workers):
            processes.extend(actors)
        return made[-1]

    yield make
    for each in made:
        if not set(each._actors) & set(processes):
            each.close()


def call(method, *arguments):
    """The outcome of a call."""
    outcomes = queue.SimpleQueue()
    method(*arguments, outcomes.put)
    return outcomes.get(timeout=PATIENCE_S)


def reports(*iterations):
    return {"answers": [Report(iteration, {"loss": 1.0}) for iteration in iterations]}


def test_workers_of_a_node_have_ranks_one_after_the_other(crew):
    made = crew(
        {"node": "a", "gpus": ("0",), **reports(1)},
        {"node": "b", "gpus": ("0",), **reports(1)},
        {"node": "a", "gpus": ("1",), **reports(1)},
    )
    assert call(made.start, None, []) == Answered(Report(1, {"loss": 1.0}))
    seats = [ray.get(each.seen.remote()) for each in made._actors]
    assert {meets_at for _, meets_at in seats} == {("127.0.0.1", 4711)}
    assert [(s.rank, s.world_size, s.local_rank, s.local_world_size, s.node_rank, s.gpus) for s, _ in seats] == [
        (0, 3, 0, 2, 0, ("0", "1")),
        (1, 3, 1, 2, 0, ("0", "1")),
        (2, 3, 0, 1, 1, ("0",)),
    ]
    assert [made.traces(worker).node for worker in range(3)] == ["a", "a", "b"]


def test_a_worker_alone_has_no_seat(crew):
    made = crew(reports(1))
    assert call(made.start, None, []) == Answered(Report(1, {"loss": 1.0}))
    assert ray.get(made._actors[0].seen.remote()) == (None, None)


def test_what_the_first_worker_reports_counts(crew):
    made = crew({"answers": [Report(1, {"loss": 1.0})]}, {"answers": [Report(1, {})]})
    assert call(made.start, None, []) == Answered(Report(1, {"loss": 1.0}))


def test_a_worker_that_has_returned_right_after_its_last_report_is_not_asked_again(crew):
    last = Report(1, {"loss": 1.0})
    made = crew({"answers": [Over(report=last)]}, {"answers": [last, Over(clean=False)]})
    assert call(made.start, None, []) == Answered(last)
    assert call(made.step) == Answered(Over(clean=False))


def test_all_have_returned(crew):
    last = Report(1, {"loss": 1.0})
    made = crew({"answers": [Over(report=last)]}, {"answers": [Over(report=Report(1, {}))]})
    assert call(made.start, None, []) == Answered(Over(report=last))


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Report(2, {}), "worker 0 reports iteration 1; worker 1 reports iteration 2: each worker has to"),
        (
            Over(),
            "worker 0 reports iteration 1; worker 1 has returned: each worker has to call raysweep.report equally",
        ),
    ],
)
def test_workers_that_do_not_report_equally_often_have_failed(crew, other, told):
    made = crew(reports(1), {"answers": [other]})
    broken = call(made.start, None, [])
    assert (broken.worker, type(broken.error)) == (None, OutOfStep)
    assert told in str(broken.error)


def test_an_error_does_not_wait_for_workers_that_hang(crew):
    made = crew({"answers": ["hangs"]}, {"answers": [ValueError("upside down")]})
    broken = call(made.start, None, [])
    assert broken.worker == 1
    assert isinstance(broken.error, ValueError)


@pytest.mark.parametrize("own", ["dies", ValueError("upside down")], ids=str)
def test_what_torch_says_of_a_lost_worker_is_not_the_cause(crew, own):
    echo = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    made = crew({"answers": [echo]}, {"answers": [own]})
    broken = call(made.start, None, [])
    assert broken.worker == 1
    assert isinstance(broken.error, ActorDiedError if own == "dies" else ValueError)


def test_but_it_is_if_nothing_else_comes(crew, monkeypatch):
    monkeypatch.setattr(crews, "CAUSE_S", 0.1)
    made = crew({"answers": [RuntimeError("NCCL error: unhandled system error")]}, {"answers": ["hangs"]})
    broken = call(made.start, None, [])
    assert broken.worker == 0
    assert "NCCL" in str(broken.error)


def test_the_worker_that_keeps_the_others_waiting_is_killed(crew):
    made = crew(reports(1), {"answers": ["hangs"]})
    outcomes = queue.SimpleQueue()
    made.start(None, [], outcomes.put)
    ray.get(made._actors[0].seen.remote())  # it has answered
    while made._called.missing != {1}:
        time.sleep(0.01)
    made.kill_late()
    broken = outcomes.get(timeout=PATIENCE_S)
    assert isinstance(broken, Broken)
    assert broken.worker == 1
    assert ray.get(made._actors[0].seen.remote()) is not None


def test_a_crew_is_clean_if_all_its_workers_are(crew):
    assert call(crew({"node": "a"}, {"node": "a"}).end, 1) == Answered(Over(clean=True))
    assert call(crew({"node": "a"}, {"node": "b"}).end, 1) == Answered(Over(clean=False))


def test_a_crew_that_was_closed_answers_no_more(crew):
    made, outcomes = crew({"answers": ["hangs"]}, {"answers": ["hangs"]}), queue.SimpleQueue()
    made.start(None, [], outcomes.put)
    made.close()
    with pytest.raises(queue.Empty):
        outcomes.get(timeout=1)
