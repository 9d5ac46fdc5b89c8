"""Reports of devices, words of nodes."""

import threading

import pytest

from orchestration.domain.credentials import hash_of
from orchestration.domain.cycle import Progress
from orchestration.domain.errors import AccessDenied, Contended, NotFound, Unauthenticated
from orchestration.domain.node import NodeStatus, node_id_of
from tests import processes
from tests.builders import DATASET, MODEL, NOON, a_model, a_node, a_sealed_cycle, a_tally
from tests.fakes import Rivals

SECRET = "what only the node knows"
NODE = a_node(status=NodeStatus.READY, secret_hash=hash_of(SECRET), generation=1, device_at=NOON)


@pytest.fixture(autouse=True)
def _model(world):
    world.put(a_model())
    world.put(NODE)


def report(world, loss, acc=-1.0):
    return processes.a_report_service(world).record(MODEL, loss, acc, api_key="")


def says(training, percent, cycle=None, model_id=MODEL):
    return training.record_progress(model_id, Progress(percent, cycle), node=NODE)


class TestStragglers:
    def test_a_late_report_counts_in_the_next_cycle_and_changes_no_closed_one(self, training, world):
        """The pod posts asynchronously: it can come after the word that closes its cycle."""
        report(world, 0.4)
        says(training, 10)
        report(world, 0.9)
        history = world.models.get(MODEL).history
        tally = world.models.get(MODEL).tally

        assert [(cycle.loss, cycle.devices) for cycle in history] == [(0.4, 1)]
        assert (tally.cycle, tally.devices, tally.loss_sum) == (1, 1, 0.9)

    def test_a_report_after_the_last_cycle_does_no_harm(self, training, world):
        """The model stays complete, and its history as it is."""
        says(training, 100)
        before = world.models.get(MODEL)

        assert report(world, 0.9) is False
        assert world.models.get(MODEL) == before


class TestProgress:
    def test_a_word_closes_the_cycle(self, training, world):
        """Its means go into the history, the counters begin anew."""
        report(world, 0.25, 0.5)
        report(world, 0.75)
        closed = says(training, 10)
        model = world.models.get(MODEL)

        assert closed is True
        assert (model.percent_complete, model.tally) == (10, a_tally(cycle=1))
        assert [(cycle.loss, cycle.acc, cycle.devices) for cycle in model.history] == [(0.5, 0.5, 2)]
        assert model.history[0].closed_at == world.clock.now

    @pytest.mark.parametrize("cycle", [1, None])
    def test_the_same_word_again_changes_nothing(self, training, world, cycle):
        """The node sends it again until it is taken; the original one may as well."""
        says(training, 10, cycle)
        report(world, 0.5)
        before = world.models.get(MODEL)

        assert says(training, 10, cycle) is False
        assert world.models.get(MODEL) == before

    @pytest.mark.parametrize(("percent", "cycle"), [(5, None), (0, None), (5, 2), (10, 1), (9, 7)])
    def test_it_never_goes_back(self, training, world, percent, cycle):
        """Neither in per cent nor in cycles."""
        says(training, 10, 1)
        before = world.models.get(MODEL)

        assert says(training, percent, cycle) is False
        assert world.models.get(MODEL) == before

    @pytest.mark.parametrize("version", [None, "1"])
    def test_zero_per_cent_is_a_question_that_changes_nothing(self, training, world, version):
        """A node asks whether it may keep an upload; also while devices have reported already."""
        report(world, 0.5)
        before, node = world.models.get(MODEL), world.nodes.get(NODE.node_id)
        answer = training.record_progress(MODEL, Progress(0, version=version), node=NODE)

        assert answer is False
        assert (world.models.get(MODEL), world.nodes.get(NODE.node_id)) == (before, node)

    @pytest.mark.parametrize("version", ["2", "", "1 "])
    def test_another_version_of_a_model_is_nobodys(self, training, version):
        """Else a stranger's upload could close the cycles of somebody's model."""
        with pytest.raises(NotFound, match="version"):
            training.record_progress(MODEL, Progress(0, version=version), node=NODE)

    def test_more_cycles_than_per_cents_are_told_apart_by_their_number(self, training, world):
        """200 cycles: two of them share a percentage."""
        for cycle in range(1, 201):
            assert says(training, cycle // 2, cycle) is True

        assert len(world.models.get(MODEL).history) == 200
        assert world.models.get(MODEL).percent_complete == 100

    def test_a_word_that_got_lost_is_made_up_for_by_the_next(self, training, world):
        """The original node never repeats one."""
        says(training, 10, 1)
        says(training, 30, 3)

        assert [cycle.cycle for cycle in world.models.get(MODEL).history] == [1, 3]

    def test_at_100_the_model_is_complete_and_due(self, training, world):
        """Nothing is fetched here: the answer comes at once."""
        assert says(training, 100) is True
        model = world.models.get(MODEL)

        assert not model.is_active
        assert model.retrieval_due
        assert world.bucket.files == {}
        assert world.server.asked_for == []

    def test_at_100_again_it_stays_as_it_is(self, training, world):
        """Also when the file is home already."""
        says(training, 100)
        world.models.retrieved(world.models.get(MODEL), "key", "link")
        before = world.models.get(MODEL)

        assert says(training, 100) is False
        assert world.models.get(MODEL) == before

    def test_a_withdrawn_model_goes_no_further(self, training, world):
        """Its node may not know yet."""
        world.models.withdraw(world.models.get(MODEL), 0.0)

        assert says(training, 100) is False
        assert not world.models.get(MODEL).retrieval_due

    def test_a_closing_that_was_cut_short_is_finished_by_the_next_word(self, training, world):
        """A process died between sealing the counters and writing the history: no cycle is lost."""
        sealed = a_sealed_cycle(tally=a_tally(devices=2, loss_sum=1.0))
        world.put(a_model(percent_complete=10, sealed=sealed, tally=a_tally(cycle=1)))
        again = says(training, 10, 1)
        model = world.models.get(MODEL)

        assert again is False
        assert model.sealed is None
        assert model.history == (sealed.settled(),)

    def test_contention_is_tried_again(self, world):
        """Another call was closing the same cycle: read again, decide again."""
        training = processes.a_training_service(world.through(Rivals(world, 4)))

        assert says(training, 90) is True
        assert [cycle.percent_complete for cycle in world.models.get(MODEL).history] == [1, 2, 3, 4, 90]

    def test_contention_without_an_end_is_said(self, world):
        """The node's outbox sends it again."""
        training = processes.a_training_service(world.through(Rivals(world, 100)))

        with pytest.raises(Contended, match="Send it again"):
            says(training, 90)
        assert world.models.get(MODEL).percent_complete == 5

    def test_a_model_of_another_node_is_out_of_reach(self, training, world):
        """A node's credential is good for its own dataset's models."""
        world.put(a_model(model_id="other", dataset_id="steps"))

        with pytest.raises(AccessDenied):
            says(training, 100, model_id="other")
        assert world.models.get("other").percent_complete == 0

    def test_nobodys_model_is_not_found(self, training):
        """Under any spelling."""
        with pytest.raises(NotFound):
            says(training, 10, model_id="nobody's")

    def test_many_at_once_close_a_cycle_once(self, training, world):
        """The same word from many threads is one cycle."""
        threads = [threading.Thread(target=says, args=(training, 10, 1)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(world.models.get(MODEL).history) == 1


class TestNode:
    def test_the_secret_names_the_node(self, training):
        """It is kept as a hash."""
        assert training.node(NODE.node_id, SECRET) == NODE

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
    def test_nothing_else_does(self, training, world, node_id, secret):
        """Neither another node's secret nor what is kept of it."""
        world.put(a_node("other", status=NodeStatus.READY, secret_hash=hash_of("its own")))

        with pytest.raises(Unauthenticated):
            training.node(node_id, secret)

    @pytest.mark.parametrize(
        "retired", [{"status": NodeStatus.ABSENT, "secret_hash": hash_of(SECRET)}, {"secret_hash": None}]
    )
    def test_the_secret_is_void_once_the_node_is_retired(self, training, world, retired):
        """Whichever of both writes came first."""
        world.put(a_node(**retired))

        with pytest.raises(Unauthenticated):
            training.node(NODE.node_id, SECRET)

    def test_a_node_that_is_going_down_may_still_report(self, training, world):
        """Its last words count."""
        world.put(a_node(status=NodeStatus.RETIRING, secret_hash=hash_of(SECRET)))

        assert training.node(node_id_of(DATASET), SECRET).status is NodeStatus.RETIRING
