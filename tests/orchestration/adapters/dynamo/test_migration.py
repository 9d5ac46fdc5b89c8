"""Records of models that an earlier version has accepted, which wrote all attributes to the model table."""

import pytest

from orchestration.adapters.dynamo import Migration, Table
from orchestration.adapters.dynamo.table import stored
from orchestration.domain.cycle import Progress, Report
from tests.builders import (
    DATASET,
    MODEL,
    NOON,
    a_closed_cycle,
    a_model,
    a_sealed_cycle,
    a_user,
    model_item,
    some_totals,
    submitted_item,
)

OURS = ("name", "trains_on", "shown_on", "hosted_at", "networks", "revision")


@pytest.fixture
def migrate(world):
    """Run the migration; return why models are not migrated."""
    tables = [Table(world.dynamodb, name) for name in ("model_table", "training_table")]
    return lambda: dict(Migration(*tables, world.users, world.clock).run())


@pytest.fixture
def put_former(world):
    """Write the item of a model as the earlier version has left it."""

    def put(model=None, **changes):
        record = {name: value for name, value in model_item(model).items() if name not in OURS}
        item = stored(submitted_item(model) | record | changes)
        world.dynamodb.put_item(TableName="model_table", Item=item)

    return put


MODELS = {
    "new": a_model(hosted_at=0.0),
    "trains": a_model(percent_complete=10, totals=some_totals(cycle=1, devices=3, loss_sum=1.5)),
    "shown": a_model(percent_complete=10, node_address="node.test"),
    "of another spelling": a_model(hosted_as="Net-1-Ada", percent_complete=10),
    "sealed": a_model(percent_complete=10, totals=some_totals(cycle=1), sealed=a_sealed_cycle()),
    "due": a_model(is_active=False, percent_complete=100, retrieval_due=True, ended_at=NOON),
    "retrieved": a_model(
        is_active=False, percent_complete=100, download_key="key", history=(a_closed_cycle(),)
    ),
    "withdrawn": a_model(is_active=False, ended_at=NOON, hosted_at=0.0),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_accepted_model_gets_its_record(migrate, put_former, world, model):
    """It is as it was; the migration may be repeated."""
    put_former(model)
    answers = [migrate()]

    assert answers == [{MODEL: ""}]
    assert world.models.get(MODEL) == model
    assert world.models.hosted(model.name_on_node) == model
    assert [found.model_id for found in world.models.on_dataset(DATASET)] == [MODEL] * model.is_active
    assert [found.model_id for found in world.models.to_retrieve(DATASET)] == [MODEL] * model.retrieval_due


def test_migrated_model_goes_on(migrate, put_former, world):
    """Reports are counted, cycles close, and its address is removed with its node."""
    put_former(a_model(node_address="node.test"))
    migrate()
    world.models.count(world.models.get(MODEL), Report.of(0.5, -1))
    world.models.close_cycle(world.models.get(MODEL), Progress(10), NOON)
    world.models.unpublish_node(DATASET)
    item = world.item("model_table", MODEL)

    assert [cycle.devices for cycle in world.models.get(MODEL).history] == [1]
    assert (item["percent_complete"], item.get("node_URL")) == (10, None)


def test_migration_changes_no_record(migrate, put_former, world):
    """A model has gone on since the first migration."""
    put_former()
    migrate()
    world.models.close_cycle(world.models.get(MODEL), Progress(10), NOON)
    before = world.item("training_table", MODEL)

    assert migrate() == {MODEL: ""}
    assert world.item("training_table", MODEL) == before


@pytest.mark.parametrize(
    ("acc", "acc_sum", "acc_devices", "mean"), [(-1, 0, 0, -1), (0.5, 1.5, 3, 0.625)], ids=["no", "with"]
)
def test_cycle_of_the_first_version_goes_on(migrate, world, acc, acc_sum, acc_devices, mean):
    """It has kept means and the number of devices, and no sums."""
    means = {"devices_trained_this_cycle": 3, "loss_this_cycle": 0.2, "acc_this_cycle": acc}
    item = submitted_item(features=["age"], labels=["y"], percent_complete=10, **means)
    world.dynamodb.put_item(TableName="model_table", Item=item)
    migrate()
    before = world.models.get(MODEL).totals
    world.models.count(world.models.get(MODEL), Report.of(0.6, 1.0 if acc_devices else -1))
    shown = world.item("model_table", MODEL)

    assert (before.devices, before.loss, before.acc_sum, before.acc_devices) == (
        3,
        pytest.approx(0.2),
        acc_sum,
        acc_devices,
    )
    assert float(shown["loss_this_cycle"]) == pytest.approx(0.3)
    assert float(shown["acc_this_cycle"]) == mean


def test_sums_are_kept(migrate, put_former, world):
    """A later version has written them; the shown mean may be of the cycle before."""
    put_former(a_model(totals=some_totals(devices=3, loss_sum=1.5)), loss_this_cycle=7)
    migrate()

    assert world.models.get(MODEL).totals.loss == 0.5


def test_submitted_model_gets_no_record(migrate, world):
    """`/create` has not accepted it."""
    world.dynamodb.put_item(TableName="model_table", Item=submitted_item())

    assert migrate() == {}
    assert world.dynamodb.items("training_table") == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "steps"}, "has not bought dataset 'steps'"),
        ({"owner_name": "nobody"}, "'nobody' has not bought"),
        ({"hosted_as": "heart-1-ada"}, "hosted under the name of another model"),
        ({"percent_complete": 150}, "malformed: percent_complete"),
        ({"version": 1}, "malformed: version"),
        ({"loss_this_cycle": "x"}, "malformed: loss_this_cycle"),
    ],
)
def test_doubtful_model_is_left_to_the_operator(migrate, put_former, world, changes, reason):
    """Anybody with the library's rights may have written it."""
    put_former(**changes)

    assert reason in migrate()[MODEL]
    assert world.dynamodb.items("training_table") == []


def test_attributes_of_records_are_not_taken_from_items(migrate, put_former, world):
    """No earlier version has written them."""
    put_former(a_model(hosted_at=0.0), hosted_at=1, networks={"0.0.0.0/24": NOON}, revision=9, name="x")
    migrate()
    model = world.models.get(MODEL)

    assert (model.hosted_at, model.networks, model.revision) == (0, {}, 0)


def test_one_spelling_of_a_name_is_migrated(migrate, put_former, world):
    """The one that ends in its owner's username."""
    world.put(a_user(user_id="m@example.org", username="mallory"))
    put_former(a_model(model_id="Net-1-ada", owner="mallory"))
    put_former()

    assert migrate() == {MODEL: "", "Net-1-ada": "another model has the name"}
    assert world.models.get(MODEL).owner == "ada"
