"""Who gets a place in a cycle: `max_workers`, places that lapse, workers that rest; and what reports do."""

import base64
from pathlib import Path

import pytest

from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.errors import CycleFull, CycleOver
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ProcessStore
from pygrid_node.training import Listener, Training

DIFF = base64.b64encode((Path(__file__).parents[1] / "data/pygrid/linear/diff-1.bin").read_bytes()).decode()
SUCCESS = {"status": "success"}


class Scene:
    """The messages of a node, on a clock that is set by hand; places lapse after 100 seconds."""

    def __init__(self, url, upload):
        self.now = 0.0
        self.due = []
        self.opened = []
        self.database = Database(url)
        self.cycles, processes = CycleStore(self.database), ProcessStore(self.database)
        self.closer = CycleCloser(processes, self.cycles, clock=lambda: self.now)
        listener = Listener(self.due.append, lambda: self.opened.append(self.now))
        clock = lambda: self.now  # noqa: E731
        self.training = Training(processes, self.cycles, listener, place_lifetime=100, clock=clock)
        assert self.training.host(upload["data"]) == SUCCESS

    def authenticated(self):
        return self.training.authenticate({"model_name": "fixture-linear"})["worker_id"]

    def ask(self, worker_id):
        speeds = {"ping": 1, "download": 1, "upload": 1}
        return self.training.request_cycle({"worker_id": worker_id, "model": "fixture-linear", **speeds})

    def enter(self, worker_id=None):
        """The proof of a place that a worker was given, a new one where none is named."""
        worker_id = worker_id or self.authenticated()
        return {"worker_id": worker_id, "request_key": self.ask(worker_id)["request_key"]}

    def report(self, proof, diff=DIFF):
        return self.training.report({**proof, "diff": diff})

    def close(self):
        for cycle_id in self.due:
            list(self.closer.close(cycle_id))


@pytest.fixture
def scene(tmp_path, recorded):
    """Starts a scene with changes to the recorded rules; see `Scene`."""
    scenes = []

    def start(**rules):
        upload = recorded(**{f"server_config__{key}": value for key, value in rules.items()})
        scenes.append(Scene(f"sqlite:///{tmp_path}/db", upload))
        return scenes[-1]

    yield start
    for each in scenes:
        each.database.close()


def test_a_cycle_has_no_more_places_than_max_workers(scene):
    """Who comes too late is told when the first place lapses."""
    scene = scene(max_workers=3)
    for scene.now in (0.0, 10.0, 20.0):
        scene.enter()
    rejection = scene.ask(scene.authenticated())

    assert (rejection["status"], rejection["timeout"]) == ("rejected", 80)


def test_a_worker_that_has_reported_keeps_its_place(scene):
    """Its diff is in the cycle; nobody may come in its stead, ever so late."""
    scene = scene(max_workers=2, max_diffs=2)
    scene.report(scene.enter())
    scene.enter()
    late = scene.authenticated()
    waits = [scene.ask(late)["timeout"]]
    scene.now = 100.0
    given = scene.ask(late)["status"]
    waits.append(scene.ask(scene.authenticated())["timeout"])

    assert (waits, given) == ([100, 100], "accepted")


def test_a_place_that_lapsed_is_given_to_another_and_its_worker_may_still_report(scene):
    """Whose diff is there is averaged, as long as the cycle wants diffs; no good work is thrown away."""
    scene = scene(max_workers=2, max_diffs=2)
    slow, gone = scene.enter(), scene.enter()
    scene.now = 100.0
    other = scene.enter()

    assert [scene.report(proof) for proof in (slow, other)] == [SUCCESS] * 2
    assert scene.due == [1]
    with pytest.raises(CycleOver):
        scene.report(gone)


def test_a_worker_that_comes_back_gets_its_lapsed_place_again(scene):
    """With the key it had, so that neither of its reports is refused; they count once."""
    scene = scene(max_workers=1)
    worker_id = scene.authenticated()
    before = scene.enter(worker_id)
    scene.now = 99.0
    assert scene.ask(worker_id)["timeout"] == 501
    scene.now = 100.0
    again = scene.enter(worker_id)

    assert again == before
    assert scene.ask(scene.authenticated())["timeout"] == 100
    assert scene.report(before) == scene.report(again) == SUCCESS
    assert scene.cycles.cycle(1).counted == 1


def test_without_max_workers_everybody_gets_a_place(scene):
    """More than will be counted, even."""
    scene = scene(max_workers=None, max_diffs=1)
    proofs = [scene.enter() for _ in range(20)]

    assert scene.report(proofs[7]) == SUCCESS
    with pytest.raises(CycleFull):
        scene.enter()


def test_a_worker_rests_after_a_cycle_that_counted_it(scene):
    """Until that many cycles later; one whose diff was refused or never came does not have to."""
    scene = scene(max_diffs=1, num_cycles=4, do_not_reuse_workers_until_cycle=2)
    trained, idle = scene.authenticated(), scene.authenticated()
    proof = scene.enter(trained)
    scene.enter(idle)
    scene.report(proof)
    scene.close()

    second = {"trained": scene.ask(trained), "idle": scene.ask(idle)}
    assert (second["trained"]["status"], second["idle"]["status"]) == ("rejected", "accepted")
    assert second["trained"]["timeout"] == 600
    scene.report({"worker_id": idle, "request_key": second["idle"]["request_key"]})
    scene.close()
    assert scene.ask(trained)["status"] == "accepted"


@pytest.mark.parametrize("selection", ["random", "iterate", None])
def test_who_comes_first_is_served_first(scene, selection):
    """Whatever the selection: there is no pool to select from."""
    scene = scene(pool_selection=selection, max_workers=3)
    answers = [scene.ask(scene.authenticated())["status"] for _ in range(5)]

    assert answers == ["accepted"] * 3 + ["rejected"] * 2


def test_a_repeated_report_is_a_success_for_ever(scene):
    """Its first answer may have been lost, and the cycle closed since; one that never counted is none."""
    scene = scene(max_diffs=1)
    counted, late = scene.enter(), scene.enter()
    answers = [scene.report(counted), scene.report(counted)]
    scene.close()
    answers.append(scene.report(counted))
    for _ in range(2):
        with pytest.raises(CycleOver):
            scene.report(late)

    assert answers == [SUCCESS] * 3
    assert scene.cycles.cycle(2).counted == 0


def test_the_report_that_was_missing_when_time_was_over_ends_the_cycle(scene):
    """And a cycle that was opened is told of, so that its time is watched."""
    scene = scene(max_diffs=5, min_diffs=2)
    proofs = [scene.enter() for _ in range(2)]
    scene.report(proofs[0])
    scene.now = 600.0
    assert scene.due == []
    scene.report(proofs[1])

    assert (scene.due, scene.opened) == ([1], [0.0])
    scene.close()
    assert scene.cycles.open_cycle(1).number == 2


def test_a_worker_that_finds_a_cycle_due_has_it_averaged(scene):
    """The process that got the last report may have died since."""
    scene = scene(max_diffs=5)
    scene.report(scene.enter())
    scene.now = 600.0
    with pytest.raises(CycleFull):
        scene.enter()

    assert scene.due == [1]
    scene.close()
    assert scene.enter()


def test_a_cycle_that_is_not_due_is_not_averaged(scene):
    """Whoever asks for it."""
    scene = scene(max_diffs=5)
    scene.report(scene.enter())
    scene.due.append(1)
    scene.close()

    assert scene.cycles.open_cycle(1).number == 1
