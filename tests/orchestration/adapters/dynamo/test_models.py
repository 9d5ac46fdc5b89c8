"""The training table, and the attributes of the model table that the marketplace reads."""

from contextlib import suppress
from dataclasses import asdict, replace

import pytest
from boto3.dynamodb.conditions import Key

from orchestration.adapters.dynamo import DynamoModels, ModelItems, Table
from orchestration.adapters.dynamo.model_items import HISTORY_LENGTH
from orchestration.adapters.dynamo.models import NETWORK_INTERVAL, REQUEST_INTERVAL
from orchestration.domain.cycle import LOSS_BOUND, Progress, Report
from orchestration.domain.errors import Conflict, NotFound, Overtaken, Upstream
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
"""Arguments that /create passes for a model."""
OF_THE_MODEL = {"features": ["age", "bmi"], "labels": ["progression"], "hosted_as": None}


@pytest.fixture
def records(table_of):
    """The training table, which only this service writes."""
    return table_of("training_table")


@pytest.fixture
def table(table_of):
    """The model table, which the library writes and the marketplace reads."""
    return table_of("model_table")


@pytest.fixture
def models(records, table):
    return DynamoModels(records, ModelItems(table))


@pytest.fixture
def put(records, table):
    """Write the item of a submitted model, and the record of an accepted one."""

    def write(model):
        table.put(submitted_item(model))
        if model.is_accepted:
            records.put(model_item(model))

    return write


def seen_through(wire, table):
    """Return the models for a process whose calls to DynamoDB are recorded."""
    client = tapped(table.client, "dynamodb", wire)
    return DynamoModels(Table(client, "training_table"), ModelItems(Table(client, "model_table")))


def interrupted(table, after, then):
    """Return the models for a process that calls `then` after its n-th call to DynamoDB."""
    return seen_through(Wire(after, then), table)


def close_and_crash(table, progress):
    """Seal a cycle in a process that dies before it finishes closing the cycle."""

    def die():
        raise Crash

    models = interrupted(table, 2, die)
    with suppress(Crash):
        models.close_cycle(models.get(MODEL), progress, NOON)


def report(models, loss, acc=-1.0, model_id=MODEL):
    """Count a report, and return the totals after it."""
    models.count(models.get(model_id), Report.of(loss, acc))
    return models.get(model_id).totals


def fill(table):
    """Write the largest item that the table takes."""
    for size in range(409_400, 400_000, -100):
        with suppress(Upstream):
            table.put(submitted_item(junk="x" * size))
            return


class TestLookUp:
    def test_stored_model_is_read(self, put, models):
        """Every field of the entity is read."""
        model = a_model(percent_complete=40, hosted_as="Net-1-Ada", node_address=ADDRESS, download_key="k")
        put(model)

        assert models.get(MODEL) == model

    @pytest.mark.parametrize("accepted", [a_model, a_submission])
    def test_id_is_looked_up_as_sent_then_in_lower_case(self, put, models, accepted):
        """An exact match takes precedence."""
        put(accepted(model_id="net"))
        lower = models.get("NET")
        put(a_submission(model_id="NET", owner="mallory"))

        assert lower.model_id == "net"
        assert models.get("net") == lower
        assert (models.get("NET").model_id, models.get("NET").owner) == ("NET", "mallory")
        with pytest.raises(NotFound):
            models.get("neT1")

    def test_name_on_the_node_takes_precedence(self, put, models):
        """Nobody can put another model in its place by submitting one under this name."""
        put(a_model(model_id="net", hosted_as="Net"))
        put(a_submission(model_id="Net", owner="mallory"))

        assert models.get("Net") == models.get("net") == models.hosted("Net")
        assert models.get("Net").owner == "ada"

    @pytest.mark.parametrize("name", ["net", "NET", "Net-1"])
    def test_only_the_exact_name_on_the_node_is_hosted(self, put, models, name):
        """Nodes and devices use no other."""
        put(a_model(model_id="net", hosted_as="Net"))

        with pytest.raises(NotFound):
            models.hosted(name)

    def test_submitted_model_is_not_hosted(self, put, models):
        """`/create` accepts a model before its upload."""
        put(a_submission())

        with pytest.raises(NotFound):
            models.hosted(MODEL)

    def test_active_models_of_a_dataset_are_listed(self, put, models):
        """Models that are complete or withdrawn aren't, nor those of another dataset."""
        for model_id, changes in {
            "a": {},
            "b": {"percent_complete": 50},
            "inactive": {"is_active": False},
            "elsewhere": {"dataset_id": "steps"},
        }.items():
            put(a_model(model_id=model_id, **changes))

        assert sorted(model.model_id for model in models.on_dataset(DATASET)) == ["a", "b"]
        assert models.on_dataset("nowhere") == []

    def test_models_due_for_retrieval_are_listed(self, put, models):
        """Those of another dataset aren't."""
        put(a_model(model_id="due", **DONE))
        put(a_model(model_id="retrieved", is_active=False, percent_complete=100))
        put(a_model(model_id="due elsewhere", dataset_id="steps", **DONE))

        assert [model.model_id for model in models.to_retrieve(DATASET)] == ["due"]

    def test_datasets_with_due_models_are_listed_once(self, put, models):
        """A dataset may have several due models."""
        before = set(models.datasets_due())
        for model_id, changes in {
            "due": DONE,
            "due too": DONE,
            "due elsewhere": DONE | {"dataset_id": "steps"},
            "retrieved": DONE | {"retrieval_due": False, "dataset_id": "sleep"},
            "trains": {"dataset_id": "sleep"},
        }.items():
            put(a_model(model_id=model_id, **changes))

        assert before == set()
        assert set(models.datasets_due()) == {DATASET, "steps"}

    def test_listed_model_has_its_progress_time(self, put, models):
        """A model without progress for too long doesn't keep its node running."""
        put(a_model(progress_at=NOON + 0.25))

        assert [model.progress_at for model in models.on_dataset(DATASET)] == [NOON + 0.25]


class TestAccept:
    def test_columns_are_recorded_and_returned(self, put, models):
        """/create adds what the library doesn't write, and the time of the request."""
        put(a_submission())
        accepted = models.accept(a_submission(), **COLUMNS, now=NOON + 1)

        assert (accepted.features, accepted.labels, accepted.hosted_as) == (("age",), ("y",), None)
        assert accepted.progress_at == NOON + 1
        assert models.get(MODEL) == accepted

    def test_spelling_of_the_id_is_stored_for_the_node(self, put, models):
        """It is removed when the library uses the item's own spelling."""
        put(a_submission())
        spelled = models.accept(models.get(MODEL), **COLUMNS | {"hosted_as": "NET-1-ada"}, now=NOON)
        plain = models.accept(spelled, **COLUMNS, now=NOON)

        assert spelled.name_on_node == "NET-1-ada"
        assert plain.name_on_node == models.get(MODEL).name_on_node == MODEL

    @pytest.mark.parametrize(("hosted_at", "interval"), [(0, NETWORK_INTERVAL), (NOON, REQUEST_INTERVAL)])
    def test_time_of_a_request_is_rarely_written(self, put, models, hosted_at, interval):
        """Before the upload more often than later: each request starts another hour for the upload."""
        put(a_model(hosted_at=hosted_at))
        times = []
        for later in (interval - 1, interval):
            models.accept(models.get(MODEL), **OF_THE_MODEL, now=NOON + later)
            times.append(models.get(MODEL).progress_at)

        assert times == [NOON, NOON + interval]

    def test_unchanged_columns_are_not_written_again_within_ten_minutes(self, put, models):
        """The library calls /create every 30 seconds."""
        put(a_submission())
        accepted = models.accept(a_submission(), **COLUMNS, now=NOON)
        again = models.accept(accepted, **COLUMNS, now=NOON + NETWORK_INTERVAL - 1)

        assert again is accepted
        assert models.get(MODEL).progress_at == NOON

    def test_polling_updates_the_progress_time_every_hour(self, put, models):
        """A model that its owner still requests isn't stale."""
        put(a_submission())
        accepted = models.accept(a_submission(), **COLUMNS, now=NOON)
        again = models.accept(accepted, **COLUMNS, now=NOON + REQUEST_INTERVAL)

        assert again == models.get(MODEL) == replace(accepted, progress_at=NOON + REQUEST_INTERVAL)

    @pytest.mark.parametrize(
        "now",
        [
            a_model(is_active=False),
            a_model(owner="mallory"),
            a_model(model_id="Net-1-ada"),
            a_model(dataset_id="steps"),
        ],
        ids=["withdrawn", "another owner", "another spelling", "another dataset"],
    )
    def test_claimed_name_is_a_conflict(self, put, models, now):
        """A name belongs to the first model that is accepted, in whatever letter case; nothing is written."""
        put(now)

        with pytest.raises(Conflict, match=r"another name|new name"):
            models.accept(a_submission(), **COLUMNS, now=NOON)
        assert models.get(now.model_id) == now

    def test_model_that_was_withdrawn_since_it_was_read_is_a_conflict(self, put, models):
        """Its columns are not written any more."""
        put(a_model(hosted_at=0.0))
        seen = models.get(MODEL)
        models.withdraw(seen, NOON)

        with pytest.raises(Conflict, match="withdrawn"):
            models.accept(seen, **COLUMNS, now=NOON)
        assert models.get(MODEL).features == seen.features

    def test_name_of_a_hosted_model_stays(self, put, models):
        """The node has stored it under this name."""
        put(a_model(hosted_at=NOON))

        with pytest.raises(Conflict, match=f"hosted as '{MODEL}'"):
            models.accept(models.get(MODEL), **COLUMNS | {"hosted_as": "NET-1-ada"}, now=NOON)

    def test_two_first_requests_at_once_create_one_record(self, put, models, table):
        """Both answer with it."""
        put(a_submission())
        answers = []

        def other():
            answers.append(models.accept(models.get(MODEL), **COLUMNS, now=NOON))

        first = interrupted(table, 2, other)  # it has found no record, and the submission
        answers.append(first.accept(first.get(MODEL), **COLUMNS, now=NOON))

        assert answers[0] == answers[1] == models.get(MODEL)

    def test_model_without_an_item_is_accepted_and_gets_none(self, models, table):
        """A partial item would stay in the table."""
        models.accept(a_submission(), **COLUMNS, now=NOON)

        assert table.get(model_id=MODEL) is None

    def test_request_restores_a_replaced_item(self, put, models, table):
        """The library sends the whole item again, for a name that it has used before."""
        put(a_model())
        models.publish_node(models.get(MODEL), ADDRESS)
        report(models, 0.5)
        models.close_cycle(models.get(MODEL), Progress(10), NOON)
        models.accept(models.get(MODEL), **OF_THE_MODEL, now=NOON)
        before = table.get(model_id=MODEL)
        table.put(submitted_item())
        models.accept(models.get(MODEL), **OF_THE_MODEL, now=NOON)

        assert table.get(model_id=MODEL) == before
        assert {"features", "labels", "history", "node_URL"} <= before.keys()

    def test_request_shows_what_an_interrupted_one_has_recorded(self, put, models, table):
        """The process dies between the record and the item."""

        def die():
            raise Crash

        put(a_submission())
        first = interrupted(table, 3, die)
        with suppress(Crash):
            first.accept(first.get(MODEL), **COLUMNS, now=NOON)
        before = table.get(model_id=MODEL)
        models.accept(models.get(MODEL), **COLUMNS, now=NOON)

        assert "features" not in before
        assert table.get(model_id=MODEL)["features"] == ["age"]


class TestCount:
    def test_reports_add_up(self, put, models):
        """The totals contain the number of reports, the sums, and the number of measured accuracies."""
        put(a_model())
        totals = [report(models, 0.5), report(models, 0.25, 0.5), report(models, 0.75, 1.0)]

        assert totals[0] == some_totals(devices=1, loss_sum=0.5)
        assert totals[2] == some_totals(devices=3, loss_sum=1.5, acc_sum=1.5, acc_devices=2)
        assert models.get(MODEL).totals == totals[2]

    @pytest.mark.parametrize("loss", [1e-45, -0.0, 0.1, 0.30000001192092896, 1 / 3, 5e-324, 99.99999])
    def test_losses_are_counted(self, put, models, loss):
        """The former service answered 29 of 40 ordinary float32 losses with a 500."""
        put(a_model())
        totals = report(models, loss, loss)

        assert totals.loss == pytest.approx(loss, rel=1e-15, abs=1e-23)
        assert models.get(MODEL).totals == totals

    def test_sum_of_losses_of_very_different_size_is_exact(self, put, models):
        """The largest loss and its negative leave the sum of the others as it was."""
        put(a_model())
        for loss in (0.1, LOSS_BOUND, 1e-22, 1 / 3, -LOSS_BOUND, -0.1):
            totals = report(models, loss)

        assert totals.devices == 6
        assert totals.loss_sum == 1 / 3 + 1e-22

    def test_accepted_model_is_counted_from_0(self, put, models):
        """The library writes -1 as means, and no attribute of this service."""
        put(a_submission())
        models.accept(models.get(MODEL), **COLUMNS, now=NOON)

        assert report(models, 0.5) == some_totals(devices=1, loss_sum=0.5)

    def test_report_is_two_writes(self, put, table, models):
        """One counts the report, one shows the means."""
        put(a_model())
        for loss in (0.5, 0.25):
            wire = Wire()
            seen_through(wire, table).count(models.get(MODEL), Report.of(loss, -1.0))
            assert wire.calls == ["dynamodb.update_item training_table", "dynamodb.update_item model_table"]

    def test_index_is_not_written_with_a_report(self, put, records, models):
        """It contains no attribute that a report changes."""
        put(a_model())
        before = list(records.query("trains-on-index", Key("trains_on").eq(DATASET)))
        report(models, 0.5, 0.5)

        assert list(records.query("trains-on-index", Key("trains_on").eq(DATASET))) == before

    def test_inactive_model_counts_nothing(self, put, models):
        """It is complete or withdrawn."""
        put(a_model(is_active=False))

        with pytest.raises(Overtaken):
            report(models, 0.5)
        assert models.get(MODEL).totals == some_totals()

    def test_report_creates_no_item(self, models):
        """A report needs no credential, so its id may be invented."""
        for model_id in ("unknown", "UNKNOWN"):
            with pytest.raises(NotFound):
                report(models, 0.5, model_id=model_id)
            with pytest.raises(NotFound):
                models.get(model_id)


class TestCycle:
    def test_closing_moves_the_means_into_the_history(self, put, models):
        """The totals are reset."""
        put(a_model())
        report(models, 0.25, 0.5)
        report(models, 0.75)
        models.close_cycle(models.get(MODEL), Progress(10), NOON)
        model = models.get(MODEL)

        assert model.history == (a_closed_cycle(loss=0.5, acc=0.5, devices=2, median_loss=0.5),)
        assert (model.percent_complete, model.totals, model.sealed) == (10, some_totals(cycle=1), None)

    def test_closing_sets_the_progress_time(self, put, models):
        """A cycle without reports does, too."""
        put(a_model())
        models.close_cycle(models.get(MODEL), Progress(10), NOON + 60)

        assert models.get(MODEL).progress_at == NOON + 60

    def test_concurrent_closings_close_one_cycle(self, put, models):
        """The second call is overtaken."""
        put(a_model())
        seen = models.get(MODEL)
        models.close_cycle(seen, Progress(10), NOON)

        with pytest.raises(Overtaken):
            models.close_cycle(seen, Progress(20), NOON + 60)
        assert (models.get(MODEL).percent_complete, models.get(MODEL).progress_at) == (10, NOON)

    def test_report_before_closing_is_in_the_closed_cycle(self, put, models):
        """Every report is in exactly one mean."""
        put(a_model())
        seen = models.get(MODEL)
        report(models, 0.5)
        models.close_cycle(seen, Progress(10), NOON)
        report(models, 0.9)
        model = models.get(MODEL)

        assert [cycle.devices for cycle in model.history] == [1]
        assert model.totals == some_totals(cycle=1, devices=1, loss_sum=0.9)

    def test_cycle_number_of_the_node_is_stored(self, put, models):
        """The original node sends none."""
        put(a_model())
        models.close_cycle(models.get(MODEL), Progress(30, cycle=3), NOON)

        assert models.get(MODEL).history[0].cycle == 3
        assert models.get(MODEL).totals.cycle == 3

    def test_last_cycle_completes_the_model(self, put, models):
        """The model is inactive, due for retrieval, and accepts no more reports."""
        put(a_model())
        models.close_cycle(models.get(MODEL), Progress(100), NOON)
        model = models.get(MODEL)

        assert (model.is_active, model.retrieval_due, model.percent_complete) == (False, True, 100)
        with pytest.raises(Overtaken):
            report(models, 0.5)
        assert [model.model_id for model in models.to_retrieve(DATASET)] == [MODEL]

    def test_withdrawn_model_closes_no_cycle(self, put, models):
        """The model is withdrawn while a progress message is applied."""
        put(a_model())
        seen = models.get(MODEL)
        models.withdraw(seen, NOON)

        with pytest.raises(Overtaken):
            models.close_cycle(seen, Progress(100), NOON)
        assert not models.get(MODEL).retrieval_due

    def test_finish_closing_without_a_sealed_cycle_does_nothing(self, put, models):
        """It is called before each progress message is applied."""
        put(a_model())
        models.finish_closing(models.get(MODEL))

        assert models.get(MODEL) == a_model()


class TestRetrieval:
    @pytest.fixture(autouse=True)
    def _due(self, put):
        put(a_model(**DONE))

    def test_retrieved_model_is_no_longer_due(self, models):
        """Its download link is bound to the stored key."""
        models.retrieved(models.get(MODEL), "key", "https://link.test")

        assert models.to_retrieve(DATASET) == []
        assert models.get(MODEL).download_key == "key"

    def test_concurrent_relinks_replace_the_link_once(self, models):
        """The second call is overtaken, and its link never becomes valid."""
        models.retrieved(models.get(MODEL), "key", "https://link.test")
        seen = models.get(MODEL)
        models.relink(seen, "new", "https://new.test")

        with pytest.raises(Overtaken):
            models.relink(seen, "newer", "https://newer.test")
        assert models.get(MODEL).download_key == "new"

    def test_failed_retrieval_leaves_the_model_due(self, models):
        """The failure reason is recorded, and failures are counted."""
        seen = models.get(MODEL)

        assert [models.not_retrieved(seen, "It did not answer.") for _ in range(2)] == [1, 2]
        assert models.get(MODEL) == a_model(**DONE, retrieval_failures=2)
        assert models.to_retrieve(DATASET)[0].retrieval_failures == 2

    def test_success_resets_the_failures(self, models):
        """They are failures in a row."""
        models.not_retrieved(models.get(MODEL), "It did not answer.")
        models.retrieved(models.get(MODEL), "key", "https://link.test")

        assert models.get(MODEL).retrieval_failures == 0

    def test_interrupted_record_leaves_the_model_due(self, models, table):
        """The link is shown before the mark is removed; the next retrieval keeps the key."""
        seen = []

        def look():
            seen.append((table.get(model_id=MODEL).get("download_link"), models.to_retrieve(DATASET)))

        for calls in (1, 2):
            interrupted(table, calls, look).retrieved(models.get(MODEL), "key", "https://link.test")
            models.table.update({"name": MODEL}, put={"retrieval_due": DATASET})

        assert [link for link, _ in seen] == [None, "https://link.test"]
        assert [[model.download_key for model in due] for _, due in seen] == [["key"], ["key"]]

    def test_withdraw_removes_key_and_due_retrieval(self, models):
        """It is idempotent."""
        models.not_retrieved(models.get(MODEL), "It did not answer.")
        models.retrieved(models.get(MODEL), "key", "https://link.test")
        for _ in range(2):
            models.withdraw(models.get(MODEL), NOON)
        model = models.get(MODEL)

        assert (model.is_active, model.download_key, model.retrieval_due) == (False, None, False)

    def test_withdrawn_model_cannot_be_retrieved(self, models):
        """A retrieval that is under way records neither a link nor a failure reason."""
        seen = models.get(MODEL)
        models.withdraw(seen, NOON)
        models.retrieved(seen, "key", "https://link.test")
        failures = models.not_retrieved(seen, "too late")

        assert failures == 0
        assert models.get(MODEL).download_key is None

    def test_missing_model_cannot_be_withdrawn(self, models):
        """No item is created."""
        with pytest.raises(NotFound):
            models.withdraw(a_model(model_id="unknown"), NOON)
        with pytest.raises(NotFound):
            models.get("unknown")


class TestAddress:
    def test_address_is_written_to_all_models_of_a_dataset(self, put, models):
        """This includes complete models, and no other dataset's."""
        for model_id, changes in {"a": {}, "b": DONE, "c": {"dataset_id": "steps"}}.items():
            put(a_model(model_id=model_id, **changes))
            models.publish_node(models.get(model_id), ADDRESS)
        shown = [models.get(model_id).node_address for model_id in "abc"]
        models.unpublish_node(DATASET)

        assert shown == [ADDRESS] * 3
        assert [models.get(model_id).node_address for model_id in "abc"] == [None, None, ADDRESS]

    def test_address_of_a_missing_model_is_not_written(self, models):
        """No item is created."""
        with pytest.raises(NotFound):
            models.publish_node(a_model(), ADDRESS)


class TestItems:
    """Attributes that the marketplace and artificienlib read."""

    def test_submitted_item_is_read(self, table, models):
        """It has exactly the library's attributes, before /create adds any."""
        table.put(submitted_item())

        assert models.get(MODEL) == a_submission()

    def test_rejected_reports_are_counted_separately(self, put, table, models):
        """Owner and operator see the number; the mean stays unchanged."""
        put(a_model())
        for _ in range(2):
            models.reject(models.get(MODEL))
        item = table.get(model_id=MODEL)

        assert (item["rejected_reports"], item["devices_trained_this_cycle"]) == (2, 0)

    def test_means_of_the_running_cycle_are_stored(self, put, table, models):
        """They are -1 before the first report; the accuracy, before the first measured one."""
        put(a_model())
        before = table.get(model_id=MODEL)
        report(models, 0.25)
        report(models, 0.75)
        item = table.get(model_id=MODEL)

        assert (before["loss_this_cycle"], before["acc_this_cycle"]) == (-1, -1)
        assert float(item["loss_this_cycle"]) == 0.5
        assert item["acc_this_cycle"] == -1
        assert item["devices_trained_this_cycle"] == 2

    def test_means_stay_until_the_next_report(self, put, table, models):
        """Closing a cycle doesn't reset them."""
        put(a_model())
        report(models, 0.25, 0.5)
        models.close_cycle(models.get(MODEL), Progress(10), NOON)
        closed = table.get(model_id=MODEL)
        models.close_cycle(models.get(MODEL), Progress(20), NOON)
        unreported = table.get(model_id=MODEL)
        report(models, 4.0)
        running = table.get(model_id=MODEL)

        assert [float(item["loss_this_cycle"]) for item in (closed, unreported, running)] == [0.25, 0.25, 4.0]
        assert [float(item["acc_this_cycle"]) for item in (closed, unreported, running)] == [0.5, 0.5, 0.5]
        assert closed["devices_trained_this_cycle"] == 0

    def test_complete_model_is_inactive_and_has_a_link_once_it_is_retrieved(self, put, table, models):
        """Until then, it shows why the last retrieval failed."""
        put(a_model())
        models.close_cycle(models.get(MODEL), Progress(100), NOON)
        due = table.get(model_id=MODEL)
        models.not_retrieved(models.get(MODEL), "It did not answer.")
        failed = table.get(model_id=MODEL)
        models.retrieved(models.get(MODEL), "key", "https://link.test")
        retrieved = table.get(model_id=MODEL)

        assert (due["active_status"], due["percent_complete"]) == (0, 100)
        assert failed["retrieval_error"] == "It did not answer."
        assert retrieved["download_link"] == "https://link.test"
        assert "retrieval_error" not in retrieved

    def test_withdrawn_model_has_a_time_and_no_link(self, put, table, models):
        """The marketplace shows the link as long as the item has one."""
        put(a_model(**DONE))
        models.retrieved(models.get(MODEL), "key", "https://link.test")
        shown = table.get(model_id=MODEL)
        models.withdraw(models.get(MODEL), NOON)
        item = table.get(model_id=MODEL)

        assert shown["download_link"] == "https://link.test"
        assert item["withdrawn_at"] == "2023-11-14T22:13:20+00:00"
        assert "download_link" not in item

    def test_submitted_model_is_withdrawn(self, put, table, models):
        """It was never accepted, so it has no record."""
        put(a_submission())
        models.withdraw(models.get(MODEL), NOON)

        assert table.get(model_id=MODEL)["active_status"] == 0
        assert not models.get(MODEL).is_active

    def test_submission_of_another_spelling_is_withdrawn_alone(self, put, models):
        """It has no right on the record of that name."""
        put(a_model())
        put(a_submission(model_id="Net-1-ada", owner="mallory"))
        models.withdraw(models.get("Net-1-ada"), NOON)

        assert not models.get("Net-1-ada").is_active
        assert models.get(MODEL).is_active

    def test_submission_that_changed_hands_is_not_withdrawn(self, put, models):
        """Another user has submitted the id meanwhile."""
        put(a_submission(owner="mallory"))

        with pytest.raises(NotFound):
            models.withdraw(a_submission(), NOON)

    def test_node_url_is_written_and_removed(self, put, table, models):
        """`node_URL` is a bare host."""
        put(a_model())
        models.publish_node(models.get(MODEL), ADDRESS)
        shown = table.get(model_id=MODEL)
        models.unpublish_node(DATASET)

        assert shown["node_URL"] == ADDRESS
        assert "node_URL" not in table.get(model_id=MODEL)

    def test_interrupted_closing_is_finished_once(self, put, table, models):
        """One write seals the totals; the next process writes the history."""
        put(a_model())
        report(models, 0.25)
        close_and_crash(table, Progress(10))
        sealed = models.get(MODEL)
        report(models, 0.75)
        models.finish_closing(sealed)
        wire = Wire()
        seen_through(wire, table).finish_closing(sealed)
        finished = models.get(MODEL)

        assert wire.calls == ["dynamodb.get_item training_table"], "the cycle was finished twice"
        assert sealed.sealed is not None
        assert finished.sealed is None
        assert finished.history == (a_closed_cycle(loss=0.25, devices=1, median_loss=0.25),)
        assert finished.totals == some_totals(cycle=1, devices=1, loss_sum=0.75)
        assert float(table.get(model_id=MODEL)["loss_this_cycle"]) == 0.75
        assert not [name for name in table.get(model_id=MODEL) if name.startswith("sealed")]

    def test_finishing_a_finished_cycle_keeps_the_next_sealed_one(self, put, table, models):
        """A process has read the model when cycle 1 was sealed; now cycle 2 is."""
        put(a_model())
        close_and_crash(table, Progress(10))
        seen = models.get(MODEL)
        models.finish_closing(seen)
        close_and_crash(table, Progress(20))
        models.finish_closing(seen)

        assert models.get(MODEL).sealed.cycle == 2

    def test_mean_does_not_replace_that_of_a_later_report(self, put, table, models):
        """Of two concurrent reports, the second is counted and shown before the first is shown."""
        put(a_model())
        report(interrupted(table, 2, lambda: report(models, 0.75)), 0.25)

        assert float(table.get(model_id=MODEL)["loss_this_cycle"]) == 0.5

    def test_mean_does_not_replace_that_of_the_next_cycle(self, put, table, models):
        """The cycle closes before its mean is written, and the next cycle has as many reports."""

        def go_on():
            models.close_cycle(models.get(MODEL), Progress(10), NOON)
            report(models, 4.0)

        put(a_model())
        report(interrupted(table, 2, go_on), 0.25)

        assert float(table.get(model_id=MODEL)["loss_this_cycle"]) == 4.0

    def test_mean_of_a_closed_cycle_does_not_replace_that_of_the_next(self, put, table, models):
        """A report of the next cycle is shown before the closed cycle is."""
        put(a_model())
        report(models, 0.25)
        slow = interrupted(table, 1, lambda: report(models, 4.0))
        slow.close_cycle(models.get(MODEL), Progress(10), NOON)

        assert float(table.get(model_id=MODEL)["loss_this_cycle"]) == 4.0
        assert [cycle.loss for cycle in models.get(MODEL).history] == [0.25]

    def test_cycle_does_not_close_while_another_is_sealed(self, put, table, models):
        """The means of the sealed cycle would be lost."""
        put(a_model())
        close_and_crash(table, Progress(10))

        with pytest.raises(Overtaken):
            models.close_cycle(models.get(MODEL), Progress(20), NOON)

    def test_history_keeps_the_last_cycles(self, put, models, monkeypatch):
        """An item is at most 400 kB, including the features."""
        monkeypatch.setattr("orchestration.adapters.dynamo.model_items.HISTORY_LENGTH", 3)
        put(a_model())
        for percent in range(1, 6):
            models.close_cycle(models.get(MODEL), Progress(percent), NOON)

        assert [cycle.cycle for cycle in models.get(MODEL).history] == [3, 4, 5]

    def test_item_with_a_full_history_fits(self):
        """DynamoDB counts names and values, 1 byte per field, and 3 per list or map."""
        one = a_closed_cycle(cycle=1000, loss=0.12345678901234567, acc=0.12345678901234567, closed_at=NOON)
        size = sum(len(name) + 22 for name in asdict(one)) + 3

        assert HISTORY_LENGTH * size < 300_000

    def test_columns_are_written_once(self, put, table, models):
        """Within ten minutes, a request of the library causes no write."""
        put(a_submission())
        accepted = models.accept(a_submission(), **COLUMNS, now=NOON)
        wire = Wire()
        seen_through(wire, table).accept(accepted, **COLUMNS, now=NOON + NETWORK_INTERVAL - 1)

        assert wire.calls == ["dynamodb.get_item model_table"]

    @pytest.mark.parametrize("name", ["version", "owner_name", "dataset", "active_status"])
    def test_item_without_a_required_attribute_is_a_conflict(self, table, models, name):
        """The error names the attribute."""
        item = submitted_item()
        del item[name]
        table.put(item)

        with pytest.raises(Conflict, match=name):
            models.get(MODEL)

    @pytest.mark.parametrize("pretended", [10**30, "x", -1])
    def test_item_that_pretends_to_be_newer_is_shown_the_record(self, put, table, models, pretended):
        """The library's rights suffice to write any revision."""
        put(a_model())
        table.put(submitted_item(revision=pretended))
        models.close_cycle(models.get(MODEL), Progress(10), NOON)
        item = table.get(model_id=MODEL)

        assert (item["percent_complete"], item["revision"]) == (10, 1)

    @pytest.mark.parametrize(
        "slow",
        [
            lambda models: models.reject(a_model()),
            lambda models: models.accept(a_model(), **OF_THE_MODEL, now=NOON + 3600),
            lambda models: models.count(a_model(), Report.of(0.5, 0.5)),
        ],
        ids=["a rejected report", "a request", "a report"],
    )
    def test_older_record_is_not_shown(self, put, table, models, slow):
        """A process is interrupted between its writes of the record and of the item."""
        put(a_model())
        slow(interrupted(table, 1, lambda: models.withdraw(models.get(MODEL), NOON)))

        assert table.get(model_id=MODEL)["active_status"] == 0

    def test_item_that_is_full_delays_no_record(self, put, table, models):
        """The library's rights suffice to fill an item up to DynamoDB's 400 kB. Sent again, it is shown."""
        put(a_model())
        fill(table)
        report(models, 0.5)
        models.publish_node(models.get(MODEL), ADDRESS)
        models.close_cycle(models.get(MODEL), Progress(10), NOON)
        model = models.get(MODEL)
        table.put(submitted_item())
        models.show(model)

        assert ([cycle.devices for cycle in model.history], model.sealed) == ([1], None)
        assert table.get(model_id=MODEL)["percent_complete"] == 10

    @pytest.mark.parametrize("faulty", [{"version": 1}, {"percent_complete": 101}, {"history": ["x"]}])
    def test_report_for_a_malformed_record_is_a_conflict(self, records, models, faulty):
        """It is not an internal error."""
        records.put(model_item() | faulty)

        with pytest.raises(Conflict, match=next(iter(faulty))):
            report(models, 0.5)

    def test_malformed_records_are_skipped_and_logged(self, records, models, logs):
        """One malformed item made the former /info fail for every device."""
        records.put(model_item())
        for number, faulty in enumerate(MALFORMED):
            records.put(model_item(a_model(model_id=f"bad {number}")) | faulty)
        listed = models.on_dataset(DATASET)

        assert [model.model_id for model in listed] == [MODEL]
        assert {entry["model_id"] for entry in logs if entry["event"] == "model.malformed"} == {
            f"bad {number}" for number in range(len(MALFORMED))
        }

    def test_all_pages_of_models_are_listed(self, records, models):
        """DynamoDB ends a page at 1 MB."""
        for number in range(12):
            records.put(model_item(a_model(model_id=f"m{number}", features=("f" * 400,) * 250)))

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
