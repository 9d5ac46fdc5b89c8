"""The model table, and the attributes that the marketplace reads."""

from contextlib import suppress
from dataclasses import asdict, replace

import pytest

from orchestration.adapters.dynamo import DynamoModels
from orchestration.adapters.dynamo.models import ASKED_INTERVAL, HISTORY_LENGTH
from orchestration.domain.cycle import LARGEST_COUNTED, Progress, Report
from orchestration.domain.errors import Conflict, NotFound, Overtaken
from tests.builders import (
    DATASET,
    MODEL,
    NOON,
    a_closed_cycle,
    a_model,
    a_submission,
    model_item,
    some_totals,
    submitted_item,
)
from tests.fakes import Crash, Wire
from tests.fakes.world import tapped

ADDRESS = "node.test"
DONE = {"is_active": False, "percent_complete": 100, "retrieval_due": True}
COLUMNS = {"features": ("age",), "labels": ("y",), "hosted_as": None}
"""What /create says of a model."""


@pytest.fixture
def table(table_of):
    return table_of("model_table")


@pytest.fixture
def models(table):
    return DynamoModels(table)


@pytest.fixture
def put(table):
    """Write the item of a model."""
    return lambda model: table.put(model_item(model))


def interrupted(table, after, then):
    """Return the models as a process sees them that is interrupted right after its n-th call to DynamoDB."""
    return DynamoModels(replace(table, client=tapped(table.client, "dynamodb", Wire(after, then))))


def close_and_die(table, progress):
    """Seal a cycle in a process that dies before it settles it."""

    def die():
        raise Crash

    models = interrupted(table, 2, die)
    with suppress(Crash):
        models.close_cycle(models.get(MODEL), progress, NOON)


def report(models, loss, acc=-1.0, model_id=MODEL):
    """Count a report, and return the counters after it."""
    models.count(models.get(model_id), Report.of(loss, acc))
    return models.get(model_id).totals


class TestLookUp:
    def test_what_was_written_is_read(self, put, models):
        """Every field of the entity."""
        model = a_model(percent_complete=40, hosted_as="Net-1-Ada", node_address=ADDRESS, download_key="k")
        put(model)

        assert models.get(MODEL) == model

    def test_an_id_is_tried_as_sent_and_then_in_lower_case(self, put, models):
        """Its own letter case comes first."""
        put(a_model(model_id="net"))
        lower = models.get("NET")
        put(a_model(model_id="NET"))

        assert lower.model_id == "net"
        assert models.get("NET").model_id == "NET"
        with pytest.raises(NotFound):
            models.get("neT1")

    def test_the_active_models_of_a_dataset_are_listed(self, put, models):
        """No other dataset's, none that is complete or withdrawn."""
        for model_id, changes in {
            "a": {},
            "b": {"percent_complete": 50},
            "inactive": {"is_active": False},
            "elsewhere": {"dataset_id": "steps"},
        }.items():
            put(a_model(model_id=model_id, **changes))

        assert sorted(model.model_id for model in models.on_dataset(DATASET)) == ["a", "b"]
        assert models.on_dataset("nowhere") == []

    def test_what_is_due_is_listed(self, put, models):
        """Of this dataset only."""
        put(a_model(model_id="due", **DONE))
        put(a_model(model_id="home", is_active=False, percent_complete=100))
        put(a_model(model_id="due elsewhere", dataset_id="steps", **DONE))

        assert [model.model_id for model in models.to_retrieve(DATASET)] == ["due"]

    def test_datasets_with_something_due_are_named_once(self, put, models):
        """However many of their models are; one look shows whether there is anything to do at all."""
        before = set(models.datasets_due())
        for model_id, changes in {
            "due": DONE,
            "due too": DONE,
            "due elsewhere": DONE | {"dataset_id": "steps"},
            "home": DONE | {"retrieval_due": False, "dataset_id": "sleep"},
            "trains": {"dataset_id": "sleep"},
        }.items():
            put(a_model(model_id=model_id, **changes))

        assert before == set()
        assert set(models.datasets_due()) == {DATASET, "steps"}

    def test_a_listed_model_says_when_it_made_progress(self, put, models):
        """What rests for too long no longer holds its node awake."""
        put(a_model(progress_at=NOON + 0.25))

        assert [model.progress_at for model in models.on_dataset(DATASET)] == [NOON + 0.25]


class TestAccept:
    def test_columns_are_recorded_and_returned(self, put, models):
        """/create adds what the library doesn't write, and notes when it was asked."""
        put(a_submission())
        accepted = models.accept(a_submission(), **COLUMNS, now=NOON + 1)

        assert (accepted.features, accepted.labels, accepted.hosted_as) == (("age",), ("y",), None)
        assert accepted.progress_at == NOON + 1
        assert models.get(MODEL) == accepted

    def test_another_spelling_is_kept_for_the_node(self, put, models):
        """And forgotten when the library uses the item's own."""
        put(a_submission())
        spelled = models.accept(models.get(MODEL), **COLUMNS | {"hosted_as": "NET-1-ada"}, now=NOON)
        plain = models.accept(spelled, **COLUMNS, now=NOON)

        assert spelled.name_on_node == "NET-1-ada"
        assert plain.name_on_node == models.get(MODEL).name_on_node == MODEL

    def test_what_stands_there_is_not_written_again_within_the_hour(self, put, models):
        """The library asks every 30 seconds."""
        put(a_submission())
        accepted = models.accept(a_submission(), **COLUMNS, now=NOON)
        again = models.accept(accepted, **COLUMNS, now=NOON + ASKED_INTERVAL - 1)

        assert again is accepted
        assert models.get(MODEL).progress_at == NOON

    def test_whoever_goes_on_asking_is_noted_every_hour(self, put, models):
        """A model that its owner still wants isn't stale."""
        put(a_submission())
        accepted = models.accept(a_submission(), **COLUMNS, now=NOON)
        again = models.accept(accepted, **COLUMNS, now=NOON + ASKED_INTERVAL)

        assert again == models.get(MODEL) == replace(accepted, progress_at=NOON + ASKED_INTERVAL)

    @pytest.mark.parametrize("now", [a_model(is_active=False), a_model(owner="mallory")])
    def test_a_model_that_changed_meanwhile_is_a_conflict(self, put, models, now):
        """Withdrawn, or somebody else's by now: nothing is written."""
        put(now)

        with pytest.raises(Conflict):
            models.accept(a_submission(), **COLUMNS, now=NOON)
        assert models.get(MODEL) == now

    def test_a_model_that_was_deleted_meanwhile_is_not_made_again(self, models):
        """A half-written item would live for ever."""
        with pytest.raises(Conflict):
            models.accept(a_submission(), **COLUMNS, now=NOON)
        with pytest.raises(NotFound):
            models.get(MODEL)


class TestCount:
    def test_reports_add_up(self, put, models):
        """Count, sum, and the accuracies that were measured."""
        put(a_model())
        totals = [report(models, 0.5), report(models, 0.25, 0.5), report(models, 0.75, 1.0)]

        assert totals[0] == some_totals(devices=1, loss_sum=0.5)
        assert totals[2] == some_totals(devices=3, loss_sum=1.5, acc_sum=1.5, acc_devices=2)
        assert models.get(MODEL).totals == totals[2]

    @pytest.mark.parametrize("loss", [1e-45, 3.4e38, 1.7e308, -0.0, 0.1, 0.30000001192092896, 1 / 3, 5e-324])
    def test_any_finite_loss_is_taken(self, put, models, loss):
        """29 of 40 ordinary float32 losses were answered 500 once."""
        put(a_model())
        totals = report(models, loss, loss)

        assert totals.loss == pytest.approx(min(loss, LARGEST_COUNTED), rel=1e-15, abs=1e-99)
        assert models.get(MODEL).totals == totals

    def test_losses_of_very_different_size_have_a_sum(self, put, models):
        """One phone that went astray must not stop the others from reporting."""
        put(a_model())
        for loss in (3.4e38, 1e-45, 0.1, -3.4e38):
            totals = report(models, loss)

        assert totals.devices == 4

    def test_an_item_of_the_library_counts_though_it_has_no_sums_yet(self, put, models):
        """It writes -1 for the means, and no attribute of ours."""
        put(a_submission())

        assert report(models, 0.5) == some_totals(devices=1, loss_sum=0.5)

    def test_a_model_that_no_longer_trains_counts_nothing(self, put, models):
        """Complete or withdrawn."""
        put(a_model(is_active=False))

        with pytest.raises(Overtaken):
            report(models, 0.5)
        assert models.get(MODEL).totals == some_totals()

    def test_a_report_is_counted_under_either_spelling(self, put, models):
        """Phones know the name on the node."""
        put(a_model())

        assert report(models, 0.5, model_id="NET-1-Ada").devices == 1

    def test_a_report_makes_no_item(self, models):
        """Anybody may post one."""
        for model_id in ("nobody's", "NOBODY'S"):
            with pytest.raises(NotFound):
                report(models, 0.5, model_id=model_id)
            with pytest.raises(NotFound):
                models.get(model_id)


class TestCycle:
    def test_closing_moves_the_means_into_the_history(self, put, models):
        """And leaves the counters at nothing."""
        put(a_model())
        report(models, 0.25, 0.5)
        report(models, 0.75)
        models.close_cycle(models.get(MODEL), Progress(10), NOON)
        model = models.get(MODEL)

        assert model.history == (a_closed_cycle(loss=0.5, acc=0.5, devices=2, median_loss=0.5),)
        assert (model.percent_complete, model.totals, model.sealed) == (10, some_totals(cycle=1), None)

    def test_closing_is_progress(self, put, models):
        """Also when nobody has reported a loss."""
        put(a_model())
        models.close_cycle(models.get(MODEL), Progress(10), NOON + 60)

        assert models.get(MODEL).progress_at == NOON + 60

    def test_a_cycle_that_somebody_else_closed_is_left(self, put, models):
        """Two calls at once close one."""
        put(a_model())
        seen = models.get(MODEL)
        models.close_cycle(seen, Progress(10), NOON)

        with pytest.raises(Overtaken):
            models.close_cycle(seen, Progress(20), NOON + 60)
        assert (models.get(MODEL).percent_complete, models.get(MODEL).progress_at) == (10, NOON)

    def test_a_report_in_between_is_in_the_cycle_that_closes(self, put, models):
        """Every report is in exactly one mean."""
        put(a_model())
        seen = models.get(MODEL)
        report(models, 0.5)
        models.close_cycle(seen, Progress(10), NOON)
        report(models, 0.9)
        model = models.get(MODEL)

        assert [cycle.devices for cycle in model.history] == [1]
        assert model.totals == some_totals(cycle=1, devices=1, loss_sum=0.9)

    def test_the_nodes_number_counts(self, put, models):
        """Where it gives one."""
        put(a_model())
        models.close_cycle(models.get(MODEL), Progress(30, cycle=3), NOON)

        assert models.get(MODEL).history[0].cycle == 3
        assert models.get(MODEL).totals.cycle == 3

    def test_the_last_cycle_completes_the_model(self, put, models):
        """It is inactive, due, and takes no report any more."""
        put(a_model())
        models.close_cycle(models.get(MODEL), Progress(100), NOON)
        model = models.get(MODEL)

        assert (model.is_active, model.retrieval_due, model.percent_complete) == (False, True, 100)
        with pytest.raises(Overtaken):
            report(models, 0.5)
        assert [model.model_id for model in models.to_retrieve(DATASET)] == [MODEL]

    def test_a_withdrawn_model_closes_nothing(self, put, models):
        """It was withdrawn while its node spoke."""
        put(a_model())
        seen = models.get(MODEL)
        models.withdraw(seen, NOON)

        with pytest.raises(Overtaken):
            models.close_cycle(seen, Progress(100), NOON)
        assert not models.get(MODEL).retrieval_due

    def test_settling_what_is_not_sealed_does_nothing(self, put, models):
        """It is called before every word of a node."""
        put(a_model())
        models.finish_closing(models.get(MODEL))

        assert models.get(MODEL) == a_model()


class TestHandOver:
    @pytest.fixture(autouse=True)
    def _due(self, put):
        put(a_model(**DONE))

    def test_a_retrieved_model_is_no_longer_due(self, models):
        """Its key is what its link is bound to."""
        models.retrieved(models.get(MODEL), "key", "https://link.test")

        assert models.to_retrieve(DATASET) == []
        assert models.get(MODEL).download_key == "key"

    def test_a_link_is_replaced_by_whoever_knows_the_old_one(self, models):
        """Of two at once one wins, and the other's link never was."""
        models.retrieved(models.get(MODEL), "key", "https://link.test")
        seen = models.get(MODEL)
        models.relink(seen, "new", "https://new.test")

        with pytest.raises(Overtaken):
            models.relink(seen, "newer", "https://newer.test")
        assert models.get(MODEL).download_key == "new"

    def test_a_failure_leaves_it_due(self, models):
        """Only its cause is kept."""
        models.not_retrieved(models.get(MODEL), "It did not answer.")

        assert models.get(MODEL) == a_model(**DONE)

    def test_withdrawing_takes_everything_back(self, models):
        """Key and claim; twice is as once."""
        models.retrieved(models.get(MODEL), "key", "https://link.test")
        for _ in range(2):
            models.withdraw(models.get(MODEL), NOON)
        model = models.get(MODEL)

        assert (model.is_active, model.download_key, model.retrieval_due) == (False, None, False)

    def test_a_withdrawn_model_can_not_be_retrieved_any_more(self, models):
        """The retrieval was under way: it gets no link, and no cause either."""
        seen = models.get(MODEL)
        models.withdraw(seen, NOON)
        models.retrieved(seen, "key", "https://link.test")
        models.not_retrieved(seen, "too late")

        assert models.get(MODEL).download_key is None

    def test_nobodys_model_can_not_be_withdrawn(self, models):
        """No item is made of it."""
        with pytest.raises(NotFound):
            models.withdraw(a_model(model_id="nobody's"), NOON)
        with pytest.raises(NotFound):
            models.get("nobody's")


class TestAddress:
    def test_it_is_shown_and_cleared_on_all_models_of_the_dataset(self, put, models):
        """Also on those that are complete; no other dataset's."""
        for model_id, changes in {"a": {}, "b": DONE, "c": {"dataset_id": "steps"}}.items():
            put(a_model(model_id=model_id, **changes))
            models.publish_node(models.get(model_id), ADDRESS)
        shown = [models.get(model_id).node_address for model_id in "abc"]
        models.unpublish_node(DATASET)

        assert shown == [ADDRESS] * 3
        assert [models.get(model_id).node_address for model_id in "abc"] == [None, None, ADDRESS]

    def test_nobodys_model_is_shown_nothing(self, models):
        """No item is made of it."""
        with pytest.raises(NotFound):
            models.publish_node(a_model(), ADDRESS)


class TestItems:
    """What the marketplace and artificienlib see."""

    def test_the_item_of_the_library_is_read(self, table, models):
        """Exactly what it writes, before /create adds anything."""
        table.put(submitted_item())

        assert models.get(MODEL) == a_submission()

    def test_reports_that_were_not_believed_are_counted_apart(self, table, models):
        """For owner and operator; the mean stays as it is."""
        table.put(submitted_item())
        for _ in range(2):
            models.reject(models.get(MODEL))
        item = table.get(model_id=MODEL)

        assert (item["rejected_reports"], item["devices_trained_this_cycle"]) == (2, 0)
        with pytest.raises(NotFound):
            models.reject(a_model(model_id="nobody's"))

    def test_means_of_the_running_cycle_are_shown(self, table, models):
        """-1 until there is one; an unmeasured accuracy leaves it at -1."""
        table.put(submitted_item())
        before = table.get(model_id=MODEL)
        report(models, 0.25)
        report(models, 0.75)
        item = table.get(model_id=MODEL)

        assert (before["loss_this_cycle"], before["acc_this_cycle"]) == (-1, -1)
        assert float(item["loss_this_cycle"]) == 0.5
        assert item["acc_this_cycle"] == -1
        assert item["devices_trained_this_cycle"] == 2

    def test_a_closed_cycle_keeps_its_last_means(self, table, models):
        """Until the next one has its own."""
        table.put(submitted_item())
        report(models, 0.25, 0.5)
        models.close_cycle(models.get(MODEL), Progress(10), NOON)
        closed = table.get(model_id=MODEL)
        models.close_cycle(models.get(MODEL), Progress(20), NOON)
        silent = table.get(model_id=MODEL)
        report(models, 4.0)
        running = table.get(model_id=MODEL)

        assert [float(item["loss_this_cycle"]) for item in (closed, silent, running)] == [0.25, 0.25, 4.0]
        assert [float(item["acc_this_cycle"]) for item in (closed, silent, running)] == [0.5, 0.5, 0.5]
        assert closed["devices_trained_this_cycle"] == 0

    def test_a_complete_model_is_inactive_and_due_until_it_is_home(self, table, models):
        """`retrieval_due` is the dataset's id: the key of a sparse index."""
        table.put(submitted_item())
        models.close_cycle(models.get(MODEL), Progress(100), NOON)
        due = table.get(model_id=MODEL)
        models.not_retrieved(models.get(MODEL), "It did not answer.")
        failed = table.get(model_id=MODEL)
        models.retrieved(models.get(MODEL), "key", "https://link.test")
        home = table.get(model_id=MODEL)

        assert (due["active_status"], due["percent_complete"], due["retrieval_due"]) == (0, 100, DATASET)
        assert failed["retrieval_error"] == "It did not answer."
        assert home["download_link"] == "https://link.test"
        assert not {"retrieval_due", "retrieval_error"} & home.keys()

    def test_a_withdrawn_model_says_since_when_and_has_no_link(self, table, models):
        """The marketplace shows a link as long as the item has one."""
        table.put(model_item(a_model(download_key="key"), download_link="https://link.test"))
        models.withdraw(models.get(MODEL), NOON)
        item = table.get(model_id=MODEL)

        assert item["withdrawn_at"] == "2023-11-14T22:13:20+00:00"
        assert not {"download_link", "download_key", "retrieval_due"} & item.keys()

    def test_the_address_is_an_attribute_that_comes_and_goes(self, table, models):
        """`node_URL`, a bare host."""
        table.put(submitted_item())
        models.publish_node(models.get(MODEL), ADDRESS)
        shown = table.get(model_id=MODEL)
        models.unpublish_node(DATASET)

        assert shown["node_URL"] == ADDRESS
        assert "node_URL" not in table.get(model_id=MODEL)

    def test_a_closing_that_died_half_way_is_settled_later_and_once(self, table, models):
        """The counters are sealed in one write; the history follows, by whoever comes next."""
        table.put(submitted_item())
        report(models, 0.25)
        close_and_die(table, Progress(10))
        sealed = models.get(MODEL)
        report(models, 0.75)
        models.finish_closing(sealed)
        wire = Wire()
        DynamoModels(replace(table, client=tapped(table.client, "dynamodb", wire))).finish_closing(sealed)
        settled = models.get(MODEL)

        assert wire.calls == [], "settled twice"
        assert sealed.sealed is not None
        assert settled.sealed is None
        assert settled.history == (a_closed_cycle(loss=0.25, devices=1, median_loss=0.25),)
        assert settled.totals == some_totals(cycle=1, devices=1, loss_sum=0.75)
        assert float(table.get(model_id=MODEL)["loss_this_cycle"]) == 0.75
        assert not [name for name in table.get(model_id=MODEL) if name.startswith("sealed")]

    def test_a_cycle_that_others_have_settled_takes_no_later_one_away(self, table, models):
        """A process read the model when cycle 1 was sealed; by now cycle 2 is."""
        table.put(submitted_item())
        close_and_die(table, Progress(10))
        seen = models.get(MODEL)
        models.finish_closing(seen)
        close_and_die(table, Progress(20))
        models.finish_closing(seen)

        assert models.get(MODEL).sealed.cycle == 2

    def test_a_mean_does_not_replace_that_of_a_later_report(self, table, models):
        """Two reports at once: the second is counted and shown before the first is shown."""
        table.put(submitted_item())
        report(interrupted(table, 3, lambda: report(models, 0.75)), 0.25)

        assert float(table.get(model_id=MODEL)["loss_this_cycle"]) == 0.5

    def test_a_mean_does_not_replace_that_of_the_next_cycle(self, table, models):
        """Its cycle closes before it is shown, and the next one has as many reports."""

        def go_on():
            models.close_cycle(models.get(MODEL), Progress(10), NOON)
            report(models, 4.0)

        table.put(submitted_item())
        report(interrupted(table, 3, go_on), 0.25)

        assert float(table.get(model_id=MODEL)["loss_this_cycle"]) == 4.0

    def test_the_mean_of_a_closed_cycle_does_not_replace_that_of_the_next(self, table, models):
        """Both close, and the first one's mean is written last."""

        def go_on():
            report(models, 4.0)
            models.close_cycle(models.get(MODEL), Progress(20), NOON)

        table.put(submitted_item())
        report(models, 0.25)
        slow = interrupted(table, 2, go_on)
        slow.close_cycle(models.get(MODEL), Progress(10), NOON)

        assert float(table.get(model_id=MODEL)["loss_this_cycle"]) == 4.0
        assert [cycle.loss for cycle in models.get(MODEL).history] == [0.25, 4.0]

    def test_no_next_cycle_closes_over_one_that_is_not_settled(self, table, models):
        """Its means would be lost."""
        table.put(submitted_item())
        close_and_die(table, Progress(10))

        with pytest.raises(Overtaken):
            models.close_cycle(models.get(MODEL), Progress(20), NOON)

    def test_the_history_keeps_the_last_cycles_only(self, table, models, monkeypatch):
        """An item holds 400 kB; so many cycles fit beside the features."""
        monkeypatch.setattr("orchestration.adapters.dynamo.models.HISTORY_LENGTH", 3)
        table.put(submitted_item())
        for percent in range(1, 6):
            models.close_cycle(models.get(MODEL), Progress(percent), NOON)

        assert [cycle.cycle for cycle in models.get(MODEL).history] == [3, 4, 5]

    def test_an_item_with_a_full_history_fits(self):
        """By DynamoDB's own count: names and values, 1 byte a field and 3 a list or map."""
        one = a_closed_cycle(cycle=1000, loss=0.12345678901234567, acc=0.12345678901234567, closed_at=NOON)
        size = sum(len(name) + 22 for name in asdict(one)) + 3

        assert HISTORY_LENGTH * size < 300_000

    def test_columns_are_written_once(self, table, models, monkeypatch):
        """Within the hour a request of the library costs no write."""
        table.put(submitted_item())
        accepted = models.accept(a_submission(), **COLUMNS, now=NOON)
        monkeypatch.setattr(DynamoModels, "_update", None)

        assert models.accept(accepted, **COLUMNS, now=NOON + ASKED_INTERVAL - 1) is accepted

    def test_an_item_of_an_older_version_has_made_no_progress_yet(self, table, models):
        """It is read, listed, and has a time from the next request or cycle on."""
        item = model_item(a_model(features=COLUMNS["features"], labels=COLUMNS["labels"]))
        del item["progress_at"]
        table.put(item)
        older = models.get(MODEL)
        listed = [model.progress_at for model in models.on_dataset(DATASET)]

        assert older.progress_at == 0.0
        assert listed == [0.0]
        assert models.accept(older, **COLUMNS, now=NOON).progress_at == NOON

    @pytest.mark.parametrize(
        "name", ["version", "owner_name", "dataset", "percent_complete", "active_status"]
    )
    def test_an_item_that_lacks_something_is_a_conflict(self, table, models, name):
        """Its owner is told what."""
        item = submitted_item()
        del item[name]
        table.put(item)

        with pytest.raises(Conflict, match=name):
            models.get(MODEL)

    @pytest.mark.parametrize("faulty", [{"version": 1}, {"percent_complete": 101}, {"history": ["x"]}])
    def test_a_report_for_a_malformed_item_is_a_conflict(self, table, models, faulty):
        """Not a crash: anybody can send one."""
        table.put(submitted_item(**faulty))

        with pytest.raises(Conflict, match=next(iter(faulty))):
            report(models, 0.5)

    def test_malformed_items_are_skipped_and_logged(self, table, models, logs):
        """One half-written item made /info fail for every phone once."""
        table.put(model_item())
        for number, faulty in enumerate(MALFORMED):
            table.put(model_item(a_model(model_id=f"bad {number}")) | faulty)
        listed = models.on_dataset(DATASET)

        assert [model.model_id for model in listed] == [MODEL]
        assert {entry["model_id"] for entry in logs if entry["event"] == "model.malformed"} == {
            f"bad {number}" for number in range(len(MALFORMED))
        }

    def test_many_models_are_listed_page_by_page(self, table, models):
        """An answer of DynamoDB ends at 1 MB."""
        for number in range(12):
            table.put(model_item(a_model(model_id=f"m{number}", features=("f" * 400,) * 250)))

        assert len(models.on_dataset(DATASET)) == 12


MALFORMED = [
    {"version": 2},
    {"version": ""},
    {"features": [1, 2]},
    {"features": "age"},
    {"labels": [""]},
    {"labels": {"a": "b"}},
    {"percent_complete": "half"},
    {"percent_complete": -5},
    {"percent_complete": 150},
    {"hosted_as": 7},
    {"node_URL": 5000},
]
