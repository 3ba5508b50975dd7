"""Results: read from storage alone, and exported in formats that other tools read back."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from ray import tune

from raysweep.errors import BadInput, Corrupt, NotFound, StorageError
from raysweep.history import checkpoint, results
from raysweep.history.export import export
from raysweep.history.journal import Journal
from raysweep.history.results import (
    Objective,
    SweepResults,
    names,
    pareto_front,
    ranked,
    read,
    summary,
)
from raysweep.history.sweep_state import SweepState
from raysweep.storage import FolderStorage

SPEC = {"name": "mine", "metrics": ["accuracy"], "modes": ["max"], "space": {"lr": "Float", "head/act": "Categorical"}}
SPACE = {"lr": tune.uniform(0.0, 1.0), "head": {"act": tune.choice(["relu", "gelu"])}}


@pytest.fixture
def storage(tmp_path):
    return FolderStorage(str(tmp_path))


def write(storage, spec, events):
    place = storage.child(spec["name"])
    place.put("sweep.json", json.dumps(spec).encode())
    log = Journal(place, 1)
    for type, fields in events:
        log.append(type, **fields)
    log.close()
    return read(spec["name"], storage.url)


def suggest(trial, **config):
    return "suggest", {"trial": trial, "config": config}


def result(trial, iteration, checkpoint=None, /, **metrics):
    fields = {"trial": trial, "iteration": iteration, "metrics": metrics, "node": "n1"}
    return "result", {**fields, "checkpoint": checkpoint.to_dict() if checkpoint else None}


def complete(trial, status="finished"):
    return "complete", {"trial": trial, "status": status}


@pytest.fixture
def sweep(storage):
    """Three trials: the second is best at its first iteration, the third never reports a number."""
    saved = checkpoint.save(storage.child("mine"), "00001", 1, {"weights": [1, 2]})
    return write(
        storage,
        SPEC,
        [
            suggest("00000", lr=0.1, head={"act": "relu"}),
            suggest("00001", lr=0.2, head={"act": "gelu"}),
            suggest("00002", lr=0.3, head={"act": "relu"}),
            result("00000", 1, accuracy=0.5, loss=1.0, time_total_s=1.5, time_this_iter_s=1.5),
            result("00001", 1, saved, accuracy=0.9, loss=0.1, time_total_s=2.0),
            result("00002", 1, accuracy=math.nan, loss=math.nan),
            result("00001", 2, accuracy=0.7, loss=0.3, time_total_s=4.0),
            complete("00000", "stopped"),
            complete("00001"),
            ("failure", {"trial": "00002", "error": "ValueError: nan", "kind": "exception"}),
            complete("00002", "failed"),
        ],
    )


def test_a_checkpoint_that_is_a_folder_is_put_where_it_is_said(storage, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a").write_text("1")
    saved = checkpoint.save_folder(storage.child("mine"), "00000", 1, tmp_path / "weights")
    found = write(storage, SPEC, [suggest("00000", lr=0.1), result("00000", 1, saved, accuracy=0.5)])
    with pytest.raises(BadInput, match=rf"checkpoint `{saved.key}` is a folder of files: say where to put them"):
        found.load()
    assert found.load(folder=str(tmp_path / "back")) == tmp_path / "back"
    assert (tmp_path / "back" / "a").read_text() == "1"
    with pytest.raises(BadInput, match=r"`folder=.*/back`: must not exist yet: give another one"):
        found.load(saved.key, folder=tmp_path / "back")


def test_the_table_has_a_row_a_trial_with_its_best_iteration(sweep):
    rows = sweep.table.set_index("trial")
    assert list(rows.index) == ["00000", "00001", "00002"]
    assert list(rows["status"]) == ["stopped", "finished", "failed"]
    assert list(rows["accuracy"][:2]) == [0.5, 0.9]
    assert math.isnan(rows["accuracy"]["00002"])
    assert list(rows["config/lr"]) == [0.1, 0.2, 0.3]
    assert list(rows["config/head/act"]) == ["relu", "gelu", "relu"]
    best = rows.loc["00001"]
    assert (best["loss"], best["best_iteration"], best["iterations"]) == (0.1, 1, 2)
    assert (best["time_total_s"], best["node"], best["failures"], best["donors"]) == (4.0, "n1", 0, "")
    assert best["checkpoint"].startswith("checkpoints/00001/000001-")
    assert rows["failures"]["00002"] == 1


def test_the_best_trial_is_that_of_the_best_iteration(sweep):
    best = sweep.best
    assert (best["trial"], best["iteration"], best["accuracy"]) == ("00001", 1, 0.9)
    assert best["config"] == {"lr": 0.2, "head": {"act": "gelu"}}
    assert best["metrics"] == {"accuracy": 0.9, "loss": 0.1, "time_total_s": 2.0}
    assert sweep.load() == {"weights": [1, 2]}
    assert sweep.load(best["checkpoint"]) == {"weights": [1, 2]}


def test_the_best_by_min_is_the_smallest(storage):
    spec = {**SPEC, "metrics": ["loss"], "modes": ["min"]}
    events = [suggest("0"), suggest("1"), result("0", 1, loss=0.2), result("1", 1, loss=0.1), result("1", 2, loss=3)]
    assert write(storage, spec, events).best["trial"] == "1"


def test_a_metric_of_the_tasks_own_is_in_the_table_whatever_its_name(storage):
    own = {"accuracy": 0.5, "time_to_accuracy": 7, "sometimes": 1}
    events = [suggest("0", lr=1), result("0", 1, **own, time_this_iter_s=2.0, time_total_s=2.0)]
    found = write(storage, SPEC, [*events, result("0", 2, accuracy=0.1, time_this_iter_s=3.0, time_total_s=5.0)])
    [row] = found.table.to_dict("records")
    assert {key: row[key] for key in own} == own
    assert row["time_total_s"] == 5.0
    assert "time_this_iter_s" not in row


TAKEN = ["trial", "status", "iterations", "best_iteration", "node", "donors", "failures", "failed_by", "checkpoint"]


@pytest.mark.parametrize("name", [*TAKEN, "config/lr"])
def test_a_metric_of_the_name_of_a_column_has_a_column_of_its_own(storage, name):
    own = write(storage, SPEC, [suggest("0", lr=1), result("0", 1, accuracy=0.5, **{name: 7})])
    plain = write(storage, {**SPEC, "name": "plain"}, [suggest("0", lr=1), result("0", 1, accuracy=0.5)])
    [row], [usual] = own.table.to_dict("records"), plain.table.to_dict("records")
    assert row == {**usual, f"metrics/{name}": 7}


@pytest.mark.parametrize("name", [*TAKEN, "iteration", "config", "metrics"])
def test_what_is_optimised_may_have_any_name(storage, name):
    spec = {**SPEC, "metrics": [name], "modes": ["min"]}
    events = [suggest("0", lr=1), suggest("1", lr=2), result("0", 1, **{name: 0.25}), result("1", 1, **{name: 0.125})]
    found = write(storage, spec, events)
    assert list(found.table["trial"]) == ["0", "1"]
    assert list(ranked(found)["trial"]) == ["1", "0"]
    best = found.best
    assert (best["trial"], best["iteration"], best["config"], best["metrics"]) == ("1", 1, {"lr": 2}, {name: 0.125})
    assert f"best {name} 0.125: trial 1, " in summary(found)


@pytest.mark.parametrize("metric", ["time_total_s", "time_this_iter_s"])
def test_a_clock_of_rays_can_be_the_metric(storage, metric):
    spec = {**SPEC, "metrics": [metric], "modes": ["min"]}
    found = write(storage, spec, [suggest("0", lr=1), result("0", 1, **{metric: 2.0})])
    assert list(found.table[metric]) == [2.0]


def test_without_a_number_there_is_no_best(storage):
    found = write(storage, SPEC, [suggest("0", lr=1), result("0", 1, accuracy=math.nan), suggest("1", lr=2)])
    assert found.best is None
    assert list(found.table["iterations"]) == [1, 0]
    with pytest.raises(NotFound, match="no checkpoint of a best trial"):
        found.load()


def test_a_sweep_that_was_only_begun_has_an_empty_table(storage):
    found = write(storage, SPEC, [])
    assert (len(found.table), found.best, found.front) == (0, None, [])
    export(storage.child("mine"), found, SPACE)
    assert json.loads(storage.get("mine/best.json")) is None


def test_an_unknown_sweep_is_bad_input(storage):
    with pytest.raises(BadInput, match="there is no sweep `none` in "):
        read("none", storage.url)
    assert results.find(storage.child("none")) is None


def state_of(*values):
    events = []
    for n, (accuracy, seconds) in enumerate(values):
        metrics = {"accuracy": accuracy, "seconds": seconds}
        events += [suggest(str(n), n=n), result(str(n), 1, accuracy=0.99, seconds=0), result(str(n), 2, **metrics)]
    return SweepState({"seq": n, "type": type, **fields} for n, (type, fields) in enumerate(events, start=1))


@pytest.mark.parametrize(
    ("values", "front"),
    [
        ([(0.5, 1.0), (0.9, 5.0), (0.7, 3.0), (0.6, 4.0), (0.9, 6.0)], "012"),
        ([(0.5, 1.0), (0.5, 1.0)], "01"),
        ([(0.5, 1.0), (0.5, 2.0), (0.4, 1.0)], "0"),
        ([(math.nan, 0.0), (0.1, 9.0), (1.0, math.inf)], "1"),
        ([(None, 1.0)], ""),
    ],
)
def test_the_front_is_what_no_other_trial_beats_with_its_last_result(values, front):
    objective = Objective(("accuracy", "seconds"), ("max", "min"))
    found = pareto_front(state_of(*values), objective)
    assert "".join(trial.id for trial, _ in found) == front
    assert all(last.iteration == 2 for _, last in found)


def test_final_values_are_the_newest_ones_that_were_reported():
    # A validation every second iteration, and a trial that has diverged after one.
    rows = [
        *(("0", 1, {"accuracy": 0.5, "seconds": 1.0}), ("0", 2, {"seconds": 2.0}), ("0", 3, {"loss": 1.0})),
        *(("1", 1, {"accuracy": 0.9, "seconds": 1.0}), ("1", 2, {"accuracy": math.nan, "seconds": 1.0})),
        *(("1", 3, {"seconds": 1.0}), ("2", 1, {"accuracy": 0.9}), ("2", 2, {"seconds": 1.0})),
    ]
    events = [suggest(trial) for trial in "012"]
    events += [result(trial, iteration, **metrics) for trial, iteration, metrics in rows]
    state = SweepState({"seq": n, "type": type, **fields} for n, (type, fields) in enumerate(events, start=1))
    found = [trial.last_with(("accuracy", "seconds")) for trial in state.trials.values()]
    assert [last and last.iteration for last in found] == [1, None, None]
    [(trial, last)] = pareto_front(state, Objective(("accuracy", "seconds"), ("max", "min")))
    assert (trial.id, last.iteration) == ("0", 1)


def test_the_newest_of_two_results_counts_though_its_iteration_is_smaller():
    events = [suggest("0"), result("0", 1, loss=1.0), result("0", 2, loss=2.0), result("0", 1, loss=3.0)]
    events.append(result("0", 3, other=1.0))
    state = SweepState({"seq": n, "type": type, **fields} for n, (type, fields) in enumerate(events, start=1))
    assert state.trials["0"].last_with(("loss",)).metrics == {"loss": 3.0}


def test_the_table_of_several_metrics_shows_the_final_values(storage):
    spec = {**SPEC, "metrics": ["accuracy", "seconds"], "modes": ["max", "min"]}
    events = [suggest("0", lr=1), result("0", 1, accuracy=0.5, seconds=1.0), result("0", 2, loss=0.1)]
    [row] = write(storage, spec, events).table.to_dict("records")
    assert (row["accuracy"], row["best_iteration"], row["iterations"]) == (0.5, 1, 2)


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("steps", [3, 1000])
def test_the_front_is_what_comparing_all_with_all_finds(objectives, steps):
    rows = np.random.default_rng(objectives).integers(0, steps, (200, objectives)) / steps
    names = tuple("abc"[:objectives])
    events = [suggest(str(n)) for n in range(len(rows))]
    events += [result(str(n), 1, **dict(zip(names, map(float, row), strict=True))) for n, row in enumerate(rows)]
    state = SweepState({"seq": n, "type": type, **fields} for n, (type, fields) in enumerate(events, start=1))
    signs = np.array([1, -1, 1][:objectives])
    scored = rows * signs
    expected = [
        str(n) for n, mine in enumerate(scored) if not any((o >= mine).all() and (o > mine).any() for o in scored)
    ]
    objective = Objective(names, ("max", "min", "max")[:objectives])
    assert [trial.id for trial, _ in pareto_front(state, objective)] == expected


def test_an_export_is_read_back_by_pandas_and_json(storage, sweep):
    export(storage.child("mine"), sweep, SPACE)
    table = pd.read_csv(io.BytesIO(storage.get("mine/trials.csv")), dtype={"trial": str})
    assert list(table["trial"]) == ["00000", "00001", "00002"]
    assert list(table["config/head/act"]) == ["relu", "gelu", "relu"]
    assert table["accuracy"].dropna().tolist() == [0.5, 0.9]
    assert table["iterations"].tolist() == [1, 2, 1]
    assert json.loads(storage.get("mine/best.json")) == sweep.best
    assert storage.size("mine/optuna.log") > 0


def read_strictly(text):
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON: jq and JavaScript refuse it")

    return json.loads(text, parse_constant=refuse)


def test_best_json_is_json_though_another_metric_is_nan(storage):
    metrics = {"accuracy": 0.5, "f1": math.nan, "loss": math.inf, "gain": -math.inf, "text": "NaN"}
    found = write(storage, SPEC, [suggest("0", lr=1.0), result("0", 1, **metrics)])
    export(storage.child("mine"), found, SPACE)
    best = read_strictly(storage.get("mine/best.json"))
    assert best["metrics"] == {"accuracy": 0.5, "f1": None, "loss": None, "gain": None, "text": "NaN"}
    assert math.isnan(found.best["metrics"]["f1"])


def test_a_front_is_json_too(storage):
    spec = {**SPEC, "metrics": ["accuracy", "seconds"], "modes": ["max", "min"]}
    found = write(storage, spec, [suggest("0", lr=1.0), result("0", 1, accuracy=0.9, seconds=1.0, f1=math.nan)])
    export(storage.child("mine"), found, SPACE)
    [only] = read_strictly(storage.get("mine/best.json"))["front"]
    assert only["metrics"] == {"accuracy": 0.9, "seconds": 1.0, "f1": None}


def test_several_metrics_export_their_front(storage):
    spec = {**SPEC, "metrics": ["accuracy", "seconds"], "modes": ["max", "min"]}
    events = [suggest(str(n), lr=0.1 * (n + 1)) for n in range(2)]
    events += [result("0", 1, accuracy=0.9, seconds=1.0), result("1", 1, accuracy=0.8, seconds=2.0)]
    found = write(storage, spec, [*events, complete("0"), complete("1")])
    assert (found.objective.single, found.best) == (False, None)
    export(storage.child("mine"), found, SPACE)
    [only] = json.loads(storage.get("mine/best.json"))["front"]
    assert (only["trial"], only["accuracy"], only["seconds"]) == ("0", 0.9, 1.0)


@pytest.mark.parametrize(
    "values", [[[32], [64, 64]], [[32], 3, None], [None, 0.5], [True, False], ["a", 1], [3, 3], [1e-4, 1.0]]
)
def test_any_choice_that_json_knows_can_be_exported(storage, values):
    events = [suggest(str(n), lr=value) for n, value in enumerate(values)]
    for n in range(len(values)):
        events += [result(str(n), 1, accuracy=0.5), complete(str(n))]
    found = write(storage, SPEC, events)
    export(storage.child("mine"), found, SPACE)
    assert json.loads(storage.get("mine/best.json"))["config"] == {"lr": values[0]}


def test_a_choice_that_json_does_not_know_can_be_exported_while_it_is_live(storage):
    # The runner exports the state that it folded itself: configurations are as the searcher gave them.
    given = {"lr": range(3), "layers": np.int64(3)}
    events = [suggest("0", **given), result("0", 1, accuracy=0.5), complete("0")]
    state = SweepState({"seq": n, "type": type, **fields} for n, (type, fields) in enumerate(events, start=1))
    export(storage.child("mine"), SweepResults(storage.child("mine").url, SPEC, state), SPACE)
    assert json.loads(storage.get("mine/best.json"))["config"] == {"lr": "range(0, 3)", "layers": 3}
    # Read again, it is what the live one was.
    written = write(storage, SPEC, events)
    assert written.best["config"] == json.loads(storage.get("mine/best.json"))["config"]


def test_a_configuration_of_odd_keys_can_be_exported_while_it_is_live(storage):
    events = [suggest("0", lr=1.0, head={("a", 1): 2}), result("0", 1, accuracy=0.5), complete("0")]
    state = SweepState({"seq": n, "type": type, **fields} for n, (type, fields) in enumerate(events, start=1))
    export(storage.child("mine"), SweepResults(storage.child("mine").url, SPEC, state), SPACE)
    assert json.loads(storage.get("mine/best.json"))["config"] == {"lr": 1.0, "head": {"('a', 1)": 2}}


def test_names_are_those_of_the_sweeps(storage, sweep):
    write(storage, {**SPEC, "name": "another"}, [])
    storage.put("neither/notes.txt", b"")
    assert names(storage.url) == ["another", "mine"]
    assert results.names(str(storage.local_path("empty"))) == []


def test_names_do_not_list_what_sweeps_hold(storage, sweep, monkeypatch):
    monkeypatch.setattr(type(storage), "list", None)
    assert names(storage.url) == ["mine"]


def test_ranked_has_the_best_first(sweep):
    assert list(ranked(sweep)["trial"]) == ["00001", "00000", "00002"]
    assert "donors" not in ranked(sweep).columns


def test_the_summary_counts_and_names_the_best(sweep):
    first, second, last = summary(sweep).splitlines()
    assert first == "trials: 1 finished, 1 stopped, 1 failed"
    assert second.startswith("best accuracy 0.9: trial 00001, ")
    assert sweep.url in last


WHOLE = {
    **{"name": "mine", "strategy": "asha", "task": "mine", "metrics": ["accuracy"], "modes": ["max"], "seed": 0},
    **{"samples": 2, "max_iterations": 3, "knobs": {}, "space": {}},
}
JOURNAL = "mine/journal/000001-000000001.jsonl"


@pytest.fixture
def whole(storage):
    """An intact sweep with a trial, its checkpoint and its table."""
    saved = checkpoint.save(storage.child("mine"), "00000", 1, "state")
    found = write(storage, WHOLE, [suggest("00000", lr=0.1), result("00000", 1, saved, accuracy=0.5)])
    export(storage.child("mine"), found, SPACE)
    return found


def test_an_intact_sweep_has_no_damage(whole):
    assert whole.damage == ()


def test_a_damaged_journal_is_read_as_far_as_it_goes(storage, whole):
    storage.put(JOURNAL, storage.get(JOURNAL).replace(b"suggest", b"suffest"))
    found = read("mine", storage.url)
    assert found.best["trial"] == "00000"
    assert found.damage == (
        f"{storage.url}/{JOURNAL}: line 1 is not as written, event 1 is lost: restore it from a backup, or go on"
        " without what is lost: `--resume auto --repair`",
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b"3", b"{}", b"[" * 200_000]
    + [
        json.dumps(WHOLE | changed).encode()
        for changed in (
            {"metrics": []},
            {"metrics": "accuracy"},
            {"metrics": [1]},
            {"modes": ["most"]},
            {"modes": ["max", "min"]},
            {"modes": None},
        )
    ],
    ids=lambda content: repr(content[:60]),
)
def test_a_sweep_json_that_says_nothing_is_named(content, storage, whole):
    storage.put("mine/sweep.json", content)
    with pytest.raises(Corrupt) as raised:
        read("mine", storage.url)
    assert str(raised.value) == (
        f"{storage.url}/mine/sweep.json is not what a sweep writes: restore it from a backup, or write it anew from the"
        " sweep's flags: `--resume auto --repair`"
    )
    found = results.find(storage.child("mine"))
    assert (found.spec, list(found.state.trials), len(found.damage)) == ({}, ["00000"], 1)


@pytest.mark.parametrize("changed", [{"samples": "2"}, {"space": []}, {"knobs": None}])
def test_what_is_wrong_in_sweep_json_is_named_and_left_out(changed, storage, whole):
    [name] = changed
    storage.put("mine/sweep.json", json.dumps(WHOLE | changed).encode())
    found = read("mine", storage.url)
    assert found.spec == {key: value for key, value in WHOLE.items() if key != name}
    [said] = found.damage
    assert said.startswith(f"{storage.url}/mine/sweep.json lacks {name}, or they are wrong: restore it")
    assert found.best["trial"] == "00000"


def test_a_missing_sweep_json_is_named(storage, whole):
    storage.delete("mine/sweep.json")
    with pytest.raises(Corrupt, match=r"mine/sweep\.json is missing, although there is checkpoints/ and journal/ and"):
        read("mine", storage.url)


@pytest.mark.parametrize("gone", ["emptied", "deleted", "a file"])
@pytest.mark.parametrize("left", ["checkpoints", "trials.csv"])
def test_a_journal_without_events_beside_results_is_named(gone, left, storage, whole):
    storage.delete_tree("mine/journal")
    if gone != "deleted":
        storage.put(JOURNAL if gone == "emptied" else "mine/journal", b"")
    if left == "checkpoints":
        storage.delete("mine/trials.csv")
    else:
        storage.delete_tree("mine/checkpoints")
    found = read("mine", storage.url)
    [said] = found.damage
    assert said.startswith(f"{storage.url}/mine/journal is empty or missing, although there is {left}")
    assert len(found.table) == 0


def test_a_sweep_that_was_killed_before_its_first_trial_is_not_damaged(storage):
    storage.put("mine/sweep.json", json.dumps(WHOLE).encode())
    storage.put(JOURNAL, b"")
    found = read("mine", storage.url)
    assert (found.damage, len(found.table)) == ((), 0)
    assert summary(found).startswith("trials: none was begun yet\n")


@pytest.mark.parametrize("content", [None, b"{", b"\0"])
def test_files_derived_from_the_journal_are_not_needed(content, storage, whole):
    for name in ("trials.csv", "best.json", "optuna.log"):
        storage.delete(f"mine/{name}")
        if content is not None:
            storage.put(f"mine/{name}", content)
    found = read("mine", storage.url)
    assert (found.damage, found.best) == ((), whole.best)


def test_foreign_files_are_neither_damage_nor_sweeps(storage, whole):
    for folder in ("", "mine/", "mine/checkpoints/", "mine/checkpoints/00000/", "other/", ".hidden/"):
        for name in (".DS_Store", "Thumbs.db", "notes.txt", "sweep.json~"):
            storage.put(f"{folder}{name}", b"\0")
    storage.put("models/checkpoints/x", b"")
    assert names(storage.url) == ["mine"]
    found = read("mine", storage.url)
    assert (found.damage, found.best) == ((), whole.best)


def test_a_damaged_sweep_is_listed(storage, whole):
    storage.put("mine/lease/000001.json", b"")
    storage.delete("mine/sweep.json")
    assert names(storage.url) == ["mine"]


def last_line(found):
    return summary(found).splitlines()[-1].removeprefix(f"results in {found.url}: ")


def test_the_summary_names_only_files_that_exist(storage):
    begun = [("start", {"term": 1, "resumed": False}), suggest("0", lr=1), result("0", 1, accuracy=0.5)]
    running = write(storage, SPEC, begun)
    later = "trials.csv best.json optuna.log are written at the sweep's end"
    assert last_line(running) == f"the journal so far; {later}"
    storage.put("mine/tensorboard/0/events", b"")
    assert last_line(running) == f"tensorboard/; {later}"
    export(storage.child("mine"), running, SPACE)
    files = "trials.csv best.json optuna.log"
    again = f"{files} are as of the last interruption, and written again at the sweep's end"
    assert last_line(running) == f"{files} tensorboard/; {again}"
    running.state.apply({"seq": 9, "type": "end", "status": "interrupted"})
    assert last_line(running) == f"{files} tensorboard/; {again}"
    running.state.apply({"seq": 10, "type": "end", "status": "ended"})
    assert last_line(running) == f"{files} tensorboard/"
    storage.delete("mine/optuna.log")
    assert last_line(running) == "trials.csv best.json tensorboard/"


def test_the_summary_does_not_fail_when_the_storage_does(storage, sweep, monkeypatch):
    def refuse(*_):
        raise StorageError("no answer")

    monkeypatch.setattr(FolderStorage, "exists", refuse)
    assert summary(sweep).endswith(", which cannot be listed now: no answer")


@pytest.mark.parametrize("broken", ["trials.csv", "best.json", "optuna.log"])
def test_a_file_that_cannot_be_written_ends_nothing(storage, sweep, monkeypatch, caplog, broken):
    def put(self, key, data, put=FolderStorage.put):
        if key == broken:
            raise OSError("No space left on device")
        put(self, key, data)

    monkeypatch.setattr(FolderStorage, "put", put)
    export(storage.child("mine"), sweep, SPACE)
    assert f"{broken} could not be written, the journal has everything: No space left" in caplog.text
    assert sorted(key for key in storage.list("mine") if "/" not in key.removeprefix("mine/")) == sorted(
        {f"mine/{name}" for name in ("sweep.json", "trials.csv", "best.json", "optuna.log")} - {f"mine/{broken}"}
    )


def test_a_bug_of_an_exporter_ends_nothing(storage, sweep, monkeypatch, caplog):
    monkeypatch.setattr("raysweep.history.optuna_export.axes_of", None)
    export(storage.child("mine"), sweep, SPACE)
    assert "optuna.log could not be written, the journal has everything: 'NoneType' object" in caplog.text
    assert storage.exists("mine/best.json")


def test_a_best_iteration_that_saved_no_state_has_the_nearest_one(storage, caplog):
    place = storage.child("mine")
    saved = {n: checkpoint.save(place, "0", n, {"iteration": n}) for n in (3, 6)}
    values = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.9, 5: 0.5, 6: 0.6}
    events = [suggest("0", lr=1), *(result("0", n, saved.get(n), accuracy=value) for n, value in values.items())]
    found = write(storage, SPEC, events)
    best = found.best
    assert (best["iteration"], best["accuracy"], best["checkpoint_iteration"]) == (4, 0.9, 3)
    assert (best["checkpoint"], best["sha256"]) == (saved[3].key, saved[3].sha256)
    assert list(found.table["checkpoint"]) == [saved[3].key]
    assert found.load() == {"iteration": 3}
    assert "trial 0 was best at iteration 4, which saved no state: the nearest one is of iteration 3" in caplog.text
    export(place, found, SPACE)
    assert json.loads(storage.get("mine/best.json"))["checkpoint_iteration"] == 3


def test_a_best_iteration_that_saved_its_state_has_that(sweep, caplog):
    assert (sweep.best["iteration"], sweep.best["checkpoint_iteration"]) == (1, 1)
    assert sweep.load() == {"weights": [1, 2]}
    assert caplog.text == ""
