"""No cycle ends with fewer than `MIN_REPORTS` reports, and no checkpoint is the diff of one device."""

import base64
from pathlib import Path

import numpy as np
import pytest

from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.errors import InvalidRequest
from pygrid_node.settings import Settings
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ModelStore
from pygrid_node.training import Training
from pygrid_node.uploads import read_upload
from pygrid_wire import decode_state, encode_state
from tests.pygrid_node.averaging.test_plans import number, plan
from tests.pygrid_node.helpers import wait_for

BODY = (Path(__file__).parents[1] / "data" / "pygrid" / "linear" / "diff-1.bin").read_bytes()
SPEEDS = {"ping": 1, "download": 1, "upload": 1}
LENGTH = 600.0  # seconds of a cycle


class Scene:
    """A node on a clock that is set by hand, with a setting for the minimum; see `restart`."""

    def __init__(self, url, min_reports):
        self.url = url
        self.now = 0.0
        self.due = set()
        self.database = None
        self.restart(min_reports)

    def restart(self, min_reports):
        """Start the node again with another minimum."""
        self.stop()
        self.database = Database(self.url)
        self.models, self.cycles = ModelStore(self.database, min_reports), CycleStore(self.database)
        self.cycles.require_reports(min_reports)
        self.closer = CycleCloser(self.models, self.cycles, lambda: self.now, min_reports)
        self.training = Training(
            self.models,
            self.cycles,
            on_due=self.due.add,
            on_opened=lambda: None,
            lease_time=100,
            spare_workers=25,
            min_reports=min_reports,
            clock=lambda: self.now,
        )

    def stop(self):
        if self.database is not None:
            self.database.close()

    def enter(self):
        """Assign a new worker; return what proves its assignment, or None."""
        worker = self.training.authenticate({"model_name": "fixture-linear"})["worker_id"]
        request = {"worker_id": worker, "model": "fixture-linear", **SPEEDS}
        answer = self.training.request_cycle(request).answer
        return (
            {"worker_id": worker, "request_key": answer["request_key"]} if "request_key" in answer else None
        )

    def report(self, proof, body=BODY):
        return self.training.report({**proof, "diff": base64.b64encode(body).decode()})

    def close(self):
        """Close what is due, as the averager does; return the number of the open cycle."""
        for cycle_id in self.due | {cycle.id for cycle in self.cycles.all_open()}:
            list(self.closer.close(cycle_id))
        open_cycle = self.cycles.open_cycle(1)
        return None if open_cycle is None else open_cycle.number

    def checkpoint(self, number):
        return decode_state(self.models.checkpoint(1, number).read())


@pytest.fixture
def start(tmp_path):
    """Start a node with a minimum; see `Scene`."""
    scenes = []

    def start(min_reports):
        scenes.append(Scene(f"sqlite:///{tmp_path}/db", min_reports))
        return scenes[-1]

    yield start
    for scene in scenes:
        scene.stop()


@pytest.mark.parametrize(
    "rules",
    [
        {"max_diffs": 1},  # artificienlib
        {"max_diffs": 1, "max_workers": 1},
        {"max_diffs": 2, "min_diffs": 1, "cycle_length": 0},
        {"max_diffs": 5, "min_workers": 0},
        {"max_diffs": None, "max_workers": 2, "min_workers": 0},
    ],
)
def test_neither_diffs_nor_time_end_a_cycle_below_the_minimum(start, recorded, rules):
    """So many workers get an assignment, too; without them the cycle could not end."""
    scene = start(3)
    scene.training.host(recorded(**{f"server_config__{key}": value for key, value in rules.items()})["data"])
    opened = []
    for scene.now in (0.0, LENGTH, 2 * LENGTH):
        proof = scene.enter()
        for _ in range(2):  # its second report counts for nothing
            scene.report(proof)
        opened.append(scene.close())

    assert opened == [1, 1, 2]


def test_spare_workers_are_counted_from_the_minimum(start, recorded):
    """The minimum raises `max_workers`; the spare workers lower no rule."""
    scene = start(4)
    scene.training.host(recorded(server_config__max_diffs=1, server_config__max_workers=1)["data"])
    proofs = [scene.enter() for _ in range(6)]
    opened = []
    for proof in proofs[:4]:
        scene.now = LENGTH
        opened.append(scene.close())
        scene.report(proof)
    opened.append(scene.close())

    assert [proof is None for proof in proofs] == [False] * 5 + [True]
    assert opened == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("counted", [0, 1, 2])
def test_open_cycle_is_raised_when_the_node_starts_with_a_higher_minimum(start, recorded, counted):
    """So are the later cycles of models that were uploaded before."""
    scene = start(1)
    scene.training.host(recorded(server_config__max_diffs=3, server_config__max_workers=3)["data"])
    proofs = [scene.enter() for _ in range(3)]
    for proof in proofs[:counted]:
        scene.report(proof)
    scene.restart(5)
    for proof in proofs[counted:]:
        scene.report(proof)
    scene.now = LENGTH
    opened = [scene.close()]
    for _ in range(2):
        scene.report(scene.enter())
    opened.append(scene.close())
    for _ in range(4):
        scene.report(scene.enter())
    scene.now = 3 * LENGTH
    opened.append(scene.close())
    scene.report(scene.enter())
    opened.append(scene.close())

    assert opened == [1, 2, 2, None]


def test_cycle_that_has_all_its_diffs_when_the_node_starts_is_closed_as_it_is(start, recorded):
    """It accepts no more: another replica may be averaging it."""
    scene = start(1)
    scene.training.host(recorded(server_config__max_diffs=1)["data"])
    scene.report(scene.enter())
    scene.restart(5)
    cycle = scene.cycles.open_cycle(1)

    assert (cycle.wanted, cycle.needed, cycle.counted) == (1, 1, 1)
    assert scene.close() == 2
    assert scene.cycles.open_cycle(1).needed == 5


def test_lower_minimum_changes_no_open_cycle(start, recorded):
    """Its first reports came under the higher one."""
    scene = start(5)
    scene.training.host(recorded(server_config__max_diffs=1)["data"])
    scene.report(scene.enter())
    scene.restart(1)
    cycle = scene.cycles.open_cycle(1)

    assert (cycle.wanted, cycle.needed, scene.close()) == (5, 5, 1)


@pytest.mark.moto
def test_open_cycles_are_raised_in_the_database(recorded, database_url, node_id):
    """On SQLite and on PostgreSQL."""
    settings = Settings(node_id=node_id, database_url=database_url, master_node_url="h:1")
    database = Database(settings.database)
    models, cycles = ModelStore(database), CycleStore(database)
    for version, max_diffs in (("1", 1), ("2", 50)):
        changes = {"client_config__version": version, "server_config__max_workers": None}
        models.add(read_upload(recorded(server_config__max_diffs=max_diffs, **changes)["data"]), now=0.0)
    cycles.require_reports(10)
    found = [(cycle.wanted, cycle.needed) for cycle in cycles.all_open()]
    database.close()

    assert found == [(10, 10), (50, 10)]


UNUSED = ("neg", 9, 1)
FIRST = plan(UNUSED, inputs=[1, 2, 3, 4, 5], outputs=[1, 2])
LAST = plan(UNUSED, inputs=[1, 2, 3, 4, 5], outputs=[3, 4])
SUM = plan(("add", 6, 1, 3), ("add", 7, 2, 4), inputs=[1, 2, 3, 4, 5], outputs=[6, 7])
# The second parameter alone is not averaged.
HALF = plan(("add", 6, 1, 3), ("mul", 7, 6, number(0.5)), inputs=[1, 2, 3, 4, 5], outputs=[7, 4])
MOVING = plan(
    ("add", 6, 1, 3),
    ("mul", 7, 6, number(0.5)),
    ("add", 8, 2, 4),
    ("mul", 9, 8, number(0.5)),
    inputs=[1, 2, 3, 4, 5],
    outputs=[7, 9],
)


@pytest.mark.parametrize("averaging_plan", [FIRST, LAST, SUM, HALF, MOVING])
def test_averaging_plan_must_be_the_mean(recorded, averaging_plan):
    """A plan that returns its last argument makes a cohort of one, whatever the number of reports."""
    upload = recorded(averaging_plan=averaging_plan.SerializeToString().hex())["data"]

    assert read_upload(upload)  # an operator may choose to trust uploads
    with pytest.raises(InvalidRequest, match="not the mean of all diffs"):
        read_upload(upload, min_reports=2)


@pytest.mark.parametrize("process", ["linear", "linear-noavg", "mlp"])
def test_recorded_uploads_are_accepted_with_a_minimum(recorded, process):
    """Their plan is the mean, or they have none."""
    upload = read_upload(recorded(process)["data"], min_reports=10)
    config = upload.server_config

    assert (config.wanted, config.needed, config.max_workers) == (10, 10, 10)


def whole_mean(diffs):
    """A plan that takes so many diffs of two parameters at once and returns their mean."""
    actions, result = [], 1000
    totals = [1, 2]
    for first in range(3, 2 * diffs, 2):
        for parameter in range(2):
            result += 1
            actions.append(("add", result, totals[parameter], first + parameter))
            totals[parameter] = result
    for parameter in range(2):
        result += 1
        actions.append(("div", result, totals[parameter], number(float(diffs))))
        totals[parameter] = result
    return plan(*actions, inputs=list(range(1, 2 * diffs + 1)), outputs=totals)


def test_plan_that_takes_all_diffs_at_once_takes_at_least_the_minimum(recorded):
    """It can't be called with more diffs than `max_diffs`."""

    def upload(diffs):
        changes = {"server_config__iterative_plan": False, "server_config__max_workers": None}
        body = whole_mean(diffs).SerializeToString().hex()
        return recorded(averaging_plan=body, server_config__max_diffs=diffs, **changes)["data"]

    with pytest.raises(InvalidRequest) as refusal:
        read_upload(upload(3), min_reports=4)

    assert str(refusal.value) == (
        "'max_diffs' needs to be at least 4: this node averages no fewer reports,"
        " and the averaging plan takes all diffs at once"
    )
    accepted = read_upload(upload(5), min_reports=4).server_config
    assert (accepted.wanted, accepted.needed) == (5, 5)


@pytest.mark.parametrize("iterative", [True, False])
def test_model_from_before_is_averaged_by_the_mean(start, recorded, iterative):
    """Its plan returns the last diff, or takes fewer diffs than a cycle has now."""
    body = LAST if iterative else plan(UNUSED, inputs=[1, 2, 3, 4], outputs=[3, 4])
    changes = {"server_config__max_diffs": 2, "server_config__iterative_plan": iterative}
    scene = start(1)
    scene.training.host(recorded(averaging_plan=body.SerializeToString().hex(), **changes)["data"])
    scene.restart(3)
    diffs = [[np.full((1, 3), value, "f4"), np.full((1,), value, "f4")] for value in (1.0, 2.0, 6.0)]
    for diff in diffs:
        scene.report(scene.enter(), encode_state(diff))

    assert scene.close() == 2
    for old, new in zip(scene.checkpoint(1), scene.checkpoint(2), strict=True):
        assert np.array_equal(new, (old.astype("f8") - 3.0).astype("f4"))


@pytest.mark.moto
def test_node_has_the_setting(start_node, recorded):
    """Over sockets: one report of a cycle that wants one, then the second."""
    node = start_node(min_reports=2)
    refused = node.upload(recorded(averaging_plan=LAST.SerializeToString().hex()))
    node.upload(recorded(server_config__max_diffs=1, server_config__max_workers=1))
    first, second = node.worker("fixture-linear"), node.worker("fixture-linear")
    first.report(BODY)
    alone = first.ask_again()
    second.report(BODY)
    wait_for(lambda: node.checkpoint("fixture-linear", 2).ok)

    assert "not the mean" in refused["error"]
    assert alone["status"] == "rejected"
    assert node.checkpoint("fixture-linear", 1).ok
    assert not node.checkpoint("fixture-linear", 3).ok


@pytest.mark.moto
def test_node_raises_the_open_cycles_when_it_starts(start_node, recorded):
    """The model was uploaded while one report was enough."""
    before = start_node()
    before.upload(recorded(server_config__max_diffs=1))
    before.close()
    node = start_node(min_reports=2)
    workers = [node.worker("fixture-linear") for _ in range(2)]
    answers = [worker.report(BODY) for worker in workers]

    assert answers == [{"status": "success"}] * 2  # the second is not too late
    wait_for(lambda: node.checkpoint("fixture-linear", 2).ok)
