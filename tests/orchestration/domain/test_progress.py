"""Progress that nodes report, and progress that is derived from a checkpoint."""

import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.domain.credentials import hash_of
from orchestration.domain.cycle import Progress
from orchestration.domain.errors import AccessDenied, NotFound, Overtaken, Unauthenticated
from orchestration.domain.node import NodeStatus, node_id_of
from orchestration.domain.progress import lost_progress, possible_lengths
from tests import processes
from tests.builders import DATASET, MODEL, NOON, a_closed_cycle, a_model, a_node, a_sealed_cycle, some_totals
from tests.fakes import Rivals

SECRET = "the node's secret"
NODE = a_node(status=NodeStatus.READY, secret_hash=hash_of(SECRET), generation=1, device_at=NOON)


@pytest.fixture(autouse=True)
def _model(world):
    world.put(a_model())
    world.put(NODE)


def report(world, loss, acc=-1.0):
    return processes.a_device_service(world).record_loss(MODEL, loss, acc, api_key="")


def send(progress, percent, cycle=None, model_id=MODEL):
    return progress.record(model_id, Progress(percent, cycle), node=NODE)


class TestLateReports:
    def test_late_report_counts_in_the_next_cycle(self, progress, world):
        """A loss report may arrive after its cycle was closed; the closed cycle does not change."""
        report(world, 0.4)
        send(progress, 10)
        report(world, 0.9)
        history = world.models.get(MODEL).history
        totals = world.models.get(MODEL).totals

        assert [(cycle.loss, cycle.devices) for cycle in history] == [(0.4, 1)]
        assert (totals.cycle, totals.devices, totals.loss_sum) == (1, 1, 0.9)

    def test_report_after_the_last_cycle_changes_nothing(self, progress, world):
        """A complete model keeps its history and its totals."""
        send(progress, 100)
        before = world.models.get(MODEL)

        assert report(world, 0.9) is False
        assert world.models.get(MODEL) == before


class TestProgress:
    def test_progress_closes_the_cycle(self, progress, world):
        """The means are appended to the history, and the totals start again from zero."""
        report(world, 0.25, 0.5)
        report(world, 0.75)
        closed = send(progress, 10)
        model = world.models.get(MODEL)

        assert closed is True
        assert (model.percent_complete, model.totals) == (10, some_totals(cycle=1))
        assert [(cycle.loss, cycle.acc, cycle.devices) for cycle in model.history] == [(0.5, 0.5, 2)]
        assert model.history[0].closed_at == world.clock.now

    @pytest.mark.parametrize("cycle", [1, None])
    def test_repeated_message_changes_nothing(self, progress, world, cycle):
        """The node sends a message until it is acknowledged, so it may arrive twice."""
        send(progress, 10, cycle)
        report(world, 0.5)
        before = world.models.get(MODEL)

        assert send(progress, 10, cycle) is False
        assert world.models.get(MODEL) == before

    @pytest.mark.parametrize(("percent", "cycle"), [(5, None), (0, None), (5, 2), (10, 1), (9, 7)])
    def test_progress_never_decreases(self, progress, world, percent, cycle):
        """Neither the percentage nor the number of closed cycles decreases."""
        send(progress, 10, 1)
        before = world.models.get(MODEL)

        assert send(progress, percent, cycle) is False
        assert world.models.get(MODEL) == before

    @pytest.mark.parametrize("version", [None, "1"])
    def test_zero_per_cent_changes_nothing(self, progress, world, version):
        """With 0 per cent a node asks whether it may host a model, which closes no cycle."""
        report(world, 0.5)
        before, node = world.models.get(MODEL), world.nodes.get(NODE.node_id)
        answer = progress.record(MODEL, Progress(0, version=version), node=NODE)

        assert answer is False
        assert (world.models.get(MODEL), world.nodes.get(NODE.node_id)) == (before, node)

    @pytest.mark.parametrize("version", ["2", "", "1 "])
    def test_other_version_of_a_model_is_not_found(self, progress, version):
        """The upload of another version must not close cycles of the recorded one."""
        with pytest.raises(NotFound, match="version"):
            progress.record(MODEL, Progress(0, version=version), node=NODE)

    def test_cycles_with_the_same_percentage_differ_by_number(self, progress, world):
        """With 200 cycles, two of them have the same percentage."""
        for cycle in range(1, 201):
            assert send(progress, cycle // 2, cycle) is True

        assert len(world.models.get(MODEL).history) == 200
        assert world.models.get(MODEL).percent_complete == 100

    def test_next_message_makes_up_for_a_lost_one(self, progress, world):
        """The original node sends each message once, so a cycle may be missing in the history."""
        send(progress, 10, 1)
        send(progress, 30, 3)

        assert [cycle.cycle for cycle in world.models.get(MODEL).history] == [1, 3]

    def test_model_is_complete_and_due_at_100_per_cent(self, progress, world):
        """The model is marked for retrieval; the request itself does not retrieve it."""
        assert send(progress, 100) is True
        model = world.models.get(MODEL)

        assert not model.is_active
        assert model.retrieval_due
        assert world.bucket.files == {}
        assert world.server.asked_for == []

    def test_complete_model_is_not_due_again(self, progress, world):
        """A repeated last message does not mark a retrieved model again."""
        send(progress, 100)
        world.models.retrieved(world.models.get(MODEL), "key", "link")
        before = world.models.get(MODEL)

        assert send(progress, 100) is False
        assert world.models.get(MODEL) == before

    def test_withdrawn_model_makes_no_progress(self, progress, world):
        """A node may report a model that was withdrawn."""
        world.models.withdraw(world.models.get(MODEL), 0.0)

        assert send(progress, 100) is False
        assert not world.models.get(MODEL).retrieval_due

    def test_next_message_finishes_an_interrupted_closing(self, progress, world):
        """If a process dies between sealing the totals and writing the history, no cycle is lost."""
        sealed = a_sealed_cycle(totals=some_totals(devices=2, loss_sum=1.0))
        world.put(a_model(percent_complete=10, sealed=sealed, totals=some_totals(cycle=1)))
        again = send(progress, 10, 1)
        model = world.models.get(MODEL)

        assert again is False
        assert model.sealed is None
        assert model.history == (sealed.closed(),)

    def test_contention_is_retried(self, world):
        """If another call closes the same cycle, the model is read again."""
        progress = processes.a_progress_service(world.through(Rivals(world, 4)))

        assert send(progress, 90) is True
        assert [cycle.percent_complete for cycle in world.models.get(MODEL).history] == [1, 2, 3, 4, 90]

    def test_persistent_contention_raises_overtaken(self, world):
        """After five attempts the call fails, and the node's outbox sends the message again."""
        progress = processes.a_progress_service(world.through(Rivals(world, 100)))

        with pytest.raises(Overtaken, match="Try again"):
            send(progress, 90)
        assert world.models.get(MODEL).percent_complete == 5

    def test_model_of_another_node_is_refused(self, progress, world):
        """A node's credential is valid for models of its own dataset only."""
        world.put(a_model(model_id="other", dataset_id="steps"))

        with pytest.raises(AccessDenied):
            send(progress, 100, model_id="other")
        assert world.models.get("other").percent_complete == 0

    def test_unknown_model_is_not_found(self, progress):
        """Progress of a model without an item raises NotFound."""
        with pytest.raises(NotFound):
            send(progress, 10, model_id="unknown")

    def test_concurrent_messages_close_a_cycle_once(self, progress, world):
        """The same message from many threads closes one cycle."""
        threads = [threading.Thread(target=send, args=(progress, 10, 1)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(world.models.get(MODEL).history) == 1


class TestNode:
    def test_secret_authenticates_its_node(self, progress):
        """The record holds only the hash of the secret."""
        assert progress.node(NODE.node_id, SECRET) == NODE

    @pytest.mark.parametrize(
        ("node_id", "secret"),
        [
            (NODE.node_id, ""),
            (NODE.node_id, "wrong"),
            (NODE.node_id, NODE.secret_hash),
            (node_id_of("other"), SECRET),
            ("", SECRET),
            ("n" * 2049, SECRET),
        ],
        ids=["empty", "wrong", "the hash itself", "another node", "no node", "a long name"],
    )
    def test_wrong_secret_is_rejected(self, progress, world, node_id, secret):
        """The secret of another node and the stored hash are rejected."""
        world.put(a_node("other", status=NodeStatus.READY, secret_hash=hash_of("its own")))

        with pytest.raises(Unauthenticated):
            progress.node(node_id, secret)

    @pytest.mark.parametrize(
        "retired", [{"status": NodeStatus.ABSENT, "secret_hash": hash_of(SECRET)}, {"secret_hash": None}]
    )
    def test_secret_is_void_once_the_node_is_retired(self, progress, world, retired):
        """Either an absent node or a missing hash voids the secret."""
        world.put(a_node(**retired))

        with pytest.raises(Unauthenticated):
            progress.node(NODE.node_id, SECRET)

    def test_retiring_node_may_still_report(self, progress, world):
        """Progress is accepted while the node's stack is being deleted."""
        world.put(a_node(status=NodeStatus.RETIRING, secret_hash=hash_of(SECRET)))

        assert progress.node(node_id_of(DATASET), SECRET).status is NodeStatus.RETIRING


def a_silent_model(*reports, percent=None):
    """Return a model whose node has sent these reports, each `(cycle, per cent)`."""
    history = tuple(a_closed_cycle(cycle=cycle, percent_complete=share) for cycle, share in reports)
    closed, last = reports[-1] if reports else (0, 0)
    return a_model(
        history=history,
        totals=some_totals(cycle=closed),
        percent_complete=last if percent is None else percent,
    )


@given(cycles=st.integers(1, 2000), received=st.integers(1, 40))
def test_possible_lengths_include_the_true_one(cycles, received):
    """Rounded percentages never rule out the true number of cycles."""
    reports = [(cycle, 100 * cycle // cycles) for cycle in range(1, min(received, cycles) + 1)]

    assert cycles in possible_lengths(reports)


def test_reports_counted_for_wrong_cycles_contradict_each_other():
    """If the first report is lost, 20 % is counted as cycle 1 and 30 % as cycle 2."""
    assert not possible_lengths([(1, 20), (2, 30)])


@pytest.mark.parametrize(
    ("model", "checkpoint", "progress"),
    [
        (a_silent_model((1, 10), (2, 20)), 3, None),
        (a_silent_model((1, 10), (2, 20)), 1, None),
        (a_silent_model((1, 10), (2, 20)), 4, Progress(30, 3)),
        (a_silent_model((1, 10), (2, 20)), 11, Progress(100, 10)),
        (a_silent_model((1, 33), (2, 66)), 4, Progress(100, 3)),
        (a_silent_model(), 4, Progress(0, 3)),
        (a_silent_model((1, 50)), 3, Progress(50, 2)),
        (a_silent_model((1, 20), (2, 30)), 5, Progress(30, 4)),
        (a_silent_model((1, 10), (2, 20)), 50, Progress(20, 49)),
        (a_silent_model((1, 50), (2, 50), (3, 75)), 5, Progress(100, 4)),
        (a_silent_model((1, 0), (2, 50), (3, 75)), 5, Progress(100, 4)),
        (a_silent_model((1, 50), (2, 50)), 5, Progress(50, 4)),
        (a_silent_model((1, 1), (2, 2)), 101, Progress(2, 100)),
    ],
    ids=[
        "nothing new",
        "only the upload",
        "one lost report",
        "the last report lost",
        "the last of three lost",
        "no report",
        "a single report is not enough",
        "reports that contradict each other",
        "more cycles than there can be",
        "resynced, with a report after it",
        "resynced at the beginning",
        "resynced, without a report after it",
        "perhaps more cycles than percentages",
    ],
)
def test_lost_progress_is_the_least_that_fits(model, checkpoint, progress):
    """A model is never recorded as complete while it may not be."""
    assert lost_progress(model, checkpoint) == progress


@given(cycles=st.integers(1, 10_000), data=st.data())
def test_lost_progress_is_the_true_one_if_the_node_has_said_how_many_cycles_there_are(cycles, data):
    """Whatever was lost: a node of this repository sends both numbers with each report."""
    reported = data.draw(st.integers(0, cycles - 1))
    closed = data.draw(st.integers(reported + 1, cycles))
    silent = replace(a_silent_model((reported, 100 * reported // cycles)), cycles=cycles)

    assert lost_progress(silent, closed + 1) == Progress(100 * closed // cycles, closed)


@given(cycles=st.integers(1, 300), received=st.integers(2, 300), checkpoint=st.integers(1, 301))
def test_lost_progress_never_exceeds_the_true_progress(cycles, received, checkpoint):
    """Holds if no report before the silence was lost."""
    received = min(received, cycles)
    reports = [(cycle, 100 * cycle // cycles) for cycle in range(1, received + 1)]
    checkpoint = min(checkpoint, cycles + 1)
    progress = lost_progress(a_silent_model(*reports), checkpoint)

    if progress is not None:
        assert progress.percent_complete <= 100 * (checkpoint - 1) // cycles
