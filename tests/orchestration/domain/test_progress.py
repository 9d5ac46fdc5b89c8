"""Progress that nodes report, and progress that is derived from a checkpoint."""

import threading

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

SECRET = "what only the node knows"
NODE = a_node(status=NodeStatus.READY, secret_hash=hash_of(SECRET), generation=1, device_at=NOON)


@pytest.fixture(autouse=True)
def _model(world):
    world.put(a_model())
    world.put(NODE)


def report(world, loss, acc=-1.0):
    return processes.a_device_service(world).record_loss(MODEL, loss, acc, api_key="")


def says(progress, percent, cycle=None, model_id=MODEL):
    return progress.record(model_id, Progress(percent, cycle), node=NODE)


class TestStragglers:
    def test_a_late_report_counts_in_the_next_cycle_and_changes_no_closed_one(self, progress, world):
        """The pod posts asynchronously: it can come after the word that closes its cycle."""
        report(world, 0.4)
        says(progress, 10)
        report(world, 0.9)
        history = world.models.get(MODEL).history
        totals = world.models.get(MODEL).totals

        assert [(cycle.loss, cycle.devices) for cycle in history] == [(0.4, 1)]
        assert (totals.cycle, totals.devices, totals.loss_sum) == (1, 1, 0.9)

    def test_a_report_after_the_last_cycle_does_no_harm(self, progress, world):
        """The model stays complete, and its history as it is."""
        says(progress, 100)
        before = world.models.get(MODEL)

        assert report(world, 0.9) is False
        assert world.models.get(MODEL) == before


class TestProgress:
    def test_a_word_closes_the_cycle(self, progress, world):
        """Its means go into the history, the counters begin anew."""
        report(world, 0.25, 0.5)
        report(world, 0.75)
        closed = says(progress, 10)
        model = world.models.get(MODEL)

        assert closed is True
        assert (model.percent_complete, model.totals) == (10, some_totals(cycle=1))
        assert [(cycle.loss, cycle.acc, cycle.devices) for cycle in model.history] == [(0.5, 0.5, 2)]
        assert model.history[0].closed_at == world.clock.now

    @pytest.mark.parametrize("cycle", [1, None])
    def test_the_same_word_again_changes_nothing(self, progress, world, cycle):
        """The node sends it again until it is taken; the original one may as well."""
        says(progress, 10, cycle)
        report(world, 0.5)
        before = world.models.get(MODEL)

        assert says(progress, 10, cycle) is False
        assert world.models.get(MODEL) == before

    @pytest.mark.parametrize(("percent", "cycle"), [(5, None), (0, None), (5, 2), (10, 1), (9, 7)])
    def test_it_never_goes_back(self, progress, world, percent, cycle):
        """Neither in per cent nor in cycles."""
        says(progress, 10, 1)
        before = world.models.get(MODEL)

        assert says(progress, percent, cycle) is False
        assert world.models.get(MODEL) == before

    @pytest.mark.parametrize("version", [None, "1"])
    def test_zero_per_cent_is_a_question_that_changes_nothing(self, progress, world, version):
        """A node asks whether it may keep an upload; also while devices have reported already."""
        report(world, 0.5)
        before, node = world.models.get(MODEL), world.nodes.get(NODE.node_id)
        answer = progress.record(MODEL, Progress(0, version=version), node=NODE)

        assert answer is False
        assert (world.models.get(MODEL), world.nodes.get(NODE.node_id)) == (before, node)

    @pytest.mark.parametrize("version", ["2", "", "1 "])
    def test_another_version_of_a_model_is_nobodys(self, progress, version):
        """Else a stranger's upload could close the cycles of somebody's model."""
        with pytest.raises(NotFound, match="version"):
            progress.record(MODEL, Progress(0, version=version), node=NODE)

    def test_more_cycles_than_per_cents_are_told_apart_by_their_number(self, progress, world):
        """200 cycles: two of them share a percentage."""
        for cycle in range(1, 201):
            assert says(progress, cycle // 2, cycle) is True

        assert len(world.models.get(MODEL).history) == 200
        assert world.models.get(MODEL).percent_complete == 100

    def test_a_word_that_got_lost_is_made_up_for_by_the_next(self, progress, world):
        """The original node never repeats one."""
        says(progress, 10, 1)
        says(progress, 30, 3)

        assert [cycle.cycle for cycle in world.models.get(MODEL).history] == [1, 3]

    def test_at_100_the_model_is_complete_and_due(self, progress, world):
        """Nothing is fetched here: the answer comes at once."""
        assert says(progress, 100) is True
        model = world.models.get(MODEL)

        assert not model.is_active
        assert model.retrieval_due
        assert world.bucket.files == {}
        assert world.server.asked_for == []

    def test_at_100_again_it_stays_as_it_is(self, progress, world):
        """Also when the file is home already."""
        says(progress, 100)
        world.models.retrieved(world.models.get(MODEL), "key", "link")
        before = world.models.get(MODEL)

        assert says(progress, 100) is False
        assert world.models.get(MODEL) == before

    def test_a_withdrawn_model_goes_no_further(self, progress, world):
        """Its node may not know yet."""
        world.models.withdraw(world.models.get(MODEL), 0.0)

        assert says(progress, 100) is False
        assert not world.models.get(MODEL).retrieval_due

    def test_a_closing_that_was_cut_short_is_finished_by_the_next_word(self, progress, world):
        """A process died between sealing the counters and writing the history: no cycle is lost."""
        sealed = a_sealed_cycle(totals=some_totals(devices=2, loss_sum=1.0))
        world.put(a_model(percent_complete=10, sealed=sealed, totals=some_totals(cycle=1)))
        again = says(progress, 10, 1)
        model = world.models.get(MODEL)

        assert again is False
        assert model.sealed is None
        assert model.history == (sealed.closed(),)

    def test_contention_is_tried_again(self, world):
        """Another call was closing the same cycle: read again, decide again."""
        progress = processes.a_progress_service(world.through(Rivals(world, 4)))

        assert says(progress, 90) is True
        assert [cycle.percent_complete for cycle in world.models.get(MODEL).history] == [1, 2, 3, 4, 90]

    def test_contention_without_an_end_is_said(self, world):
        """The node's outbox sends it again."""
        progress = processes.a_progress_service(world.through(Rivals(world, 100)))

        with pytest.raises(Overtaken, match="Try again"):
            says(progress, 90)
        assert world.models.get(MODEL).percent_complete == 5

    def test_a_model_of_another_node_is_out_of_reach(self, progress, world):
        """A node's credential is good for its own dataset's models."""
        world.put(a_model(model_id="other", dataset_id="steps"))

        with pytest.raises(AccessDenied):
            says(progress, 100, model_id="other")
        assert world.models.get("other").percent_complete == 0

    def test_nobodys_model_is_not_found(self, progress):
        """Under any spelling."""
        with pytest.raises(NotFound):
            says(progress, 10, model_id="nobody's")

    def test_many_at_once_close_a_cycle_once(self, progress, world):
        """The same word from many threads is one cycle."""
        threads = [threading.Thread(target=says, args=(progress, 10, 1)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(world.models.get(MODEL).history) == 1


class TestNode:
    def test_the_secret_names_the_node(self, progress):
        """It is kept as a hash."""
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
    def test_nothing_else_does(self, progress, world, node_id, secret):
        """Neither another node's secret nor what is kept of it."""
        world.put(a_node("other", status=NodeStatus.READY, secret_hash=hash_of("its own")))

        with pytest.raises(Unauthenticated):
            progress.node(node_id, secret)

    @pytest.mark.parametrize(
        "retired", [{"status": NodeStatus.ABSENT, "secret_hash": hash_of(SECRET)}, {"secret_hash": None}]
    )
    def test_the_secret_is_void_once_the_node_is_retired(self, progress, world, retired):
        """Whichever of both writes came first."""
        world.put(a_node(**retired))

        with pytest.raises(Unauthenticated):
            progress.node(NODE.node_id, SECRET)

    def test_a_node_that_is_going_down_may_still_report(self, progress, world):
        """Its last words count."""
        world.put(a_node(status=NodeStatus.RETIRING, secret_hash=hash_of(SECRET)))

        assert progress.node(node_id_of(DATASET), SECRET).status is NodeStatus.RETIRING


def a_silent_model(*words, percent=None):
    """A model whose node has said these words, (cycle, per cent) each."""
    history = tuple(a_closed_cycle(cycle=cycle, percent_complete=said) for cycle, said in words)
    closed, last = words[-1] if words else (0, 0)
    return a_model(
        history=history,
        totals=some_totals(cycle=closed),
        percent_complete=last if percent is None else percent,
    )


@given(cycles=st.integers(1, 2000), said=st.integers(1, 40))
def test_the_true_length_is_always_among_those_that_fit(cycles, said):
    """Whatever rounding hides."""
    words = [(cycle, 100 * cycle // cycles) for cycle in range(1, min(said, cycles) + 1)]

    assert cycles in possible_lengths(words)


def test_words_of_which_some_were_counted_wrong_do_not_fit_together():
    """The first call got lost: 20 % was counted as cycle 1, 30 % as cycle 2."""
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
        "one lost word",
        "the last word lost",
        "of three",
        "no word ever",
        "a single word proves nothing",
        "words that contradict each other",
        "more cycles than there can be",
        "healed once, and a word since then",
        "healed at the very beginning",
        "healed, and no word since then",
        "perhaps more cycles than percentages",
    ],
)
def test_the_lost_word_is_the_least_that_fits(model, checkpoint, progress):
    """No model is called complete that may not be."""
    assert lost_progress(model, checkpoint) == progress


@given(cycles=st.integers(1, 300), heard=st.integers(2, 300), checkpoint=st.integers(1, 301))
def test_a_model_is_never_called_complete_too_early(cycles, heard, checkpoint):
    """Where no word before the silence got lost."""
    heard = min(heard, cycles)
    words = [(cycle, 100 * cycle // cycles) for cycle in range(1, heard + 1)]
    checkpoint = min(checkpoint, cycles + 1)
    progress = lost_progress(a_silent_model(*words), checkpoint)

    if progress is not None:
        assert progress.percent_complete <= 100 * (checkpoint - 1) // cycles
