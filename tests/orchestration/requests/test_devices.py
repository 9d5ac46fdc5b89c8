"""Answers to devices at `/info`, and their loss reports at `/model_loss`."""

from decimal import Decimal

import pytest

from orchestration.domain.cycle import Progress
from orchestration.domain.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from orchestration.domain.node import DesiredState, NodeStatus, node_id_of
from orchestration.requests.devices import Work
from tests import processes
from tests.builders import DATASET, LEGACY_KEY, MODEL, a_dataset, a_model, a_node, a_submission
from tests.fakes import Wire

RUNNING, STOPPED = DesiredState

UP = {"desired_state": RUNNING, "status": NodeStatus.READY, "address": "node.test"}


@pytest.fixture
def work(devices):
    return lambda dataset_id=DATASET: devices.work(dataset_id, api_key=LEGACY_KEY)


def test_first_contact_marks_the_dataset_once(work, world):
    """The marketplace shows a dataset only after a device of its app has called."""
    world.put(a_dataset(is_set_up=False))
    first, second = work(), work()

    assert first == Work(f"{DATASET} is properly configured", is_first_contact=True)
    assert world.datasets.get(DATASET).is_set_up
    assert second == Work("no node available yet")


@pytest.mark.parametrize(
    "node",
    [
        None,
        a_node(**UP | {"status": NodeStatus.DEPLOYING}),
        a_node(**UP | {"status": NodeStatus.RETIRING}),
        a_node(**UP | {"status": NodeStatus.ABSENT}),
        a_node(**UP | {"desired_state": STOPPED}),
        a_node(**UP | {"address": None}),
    ],
    ids=["none", "deploying", "retiring", "absent", "to be stopped", "without an address"],
)
def test_device_waits_while_no_node_is_ready(work, world, node):
    """A device gets the address of a node only if the node is ready and should run."""
    world.put(a_model())
    if node:
        world.put(node)

    assert work() == Work("no node available yet")


def test_training_models_are_listed_with_the_address(work, world):
    """Complete, withdrawn and not yet accepted models are left out, and those of other datasets."""
    world.put(a_node(**UP))
    training = [a_model(), a_model(model_id="second", percent_complete=99)]
    others = [
        a_model(model_id="complete", percent_complete=100, is_active=False),
        a_model(model_id="100 but active", percent_complete=100),
        a_model(model_id="withdrawn", is_active=False),
        a_submission(model_id="left behind"),
        a_model(model_id="elsewhere", dataset_id="steps"),
    ]
    for model in (*training, *others):
        world.put(model)

    assert work() == Work(address="node.test", models=tuple(training))


def test_node_without_models_is_answered_with_its_address(work, world):
    """The pod accepts an empty list of models."""
    world.put(a_node(**UP))

    assert work() == Work(address="node.test", models=())


def test_wrong_key_changes_nothing(devices, world):
    """A request with a wrong key does not count as the first contact."""
    world.put(a_dataset(is_set_up=False))

    with pytest.raises(Unauthenticated):
        devices.work(DATASET, api_key="wrong")
    assert not world.datasets.get(DATASET).is_set_up


@pytest.mark.parametrize("key", ["wrong", LEGACY_KEY])
def test_unknown_dataset_is_refused_like_that_of_another_developer(devices, world, key):
    """A stranger can't tell which datasets exist, not even by the reads."""
    world.put(a_dataset(dataset_id="steps", owner="otto"))
    refusals, reads = [], []
    for dataset_id in ("steps", "nowhere"):
        wire = Wire()
        with pytest.raises(Unauthenticated) as refusal:
            processes.a_device_service(world.through(wire)).work(dataset_id, api_key=key)
        refusals.append(str(refusal.value))
        reads.append(wire.calls)

    assert refusals[0] == refusals[1]
    assert reads[0] == reads[1]


def test_request_of_a_device_makes_four_reads(world):
    """Dataset, key, node and models; a key of sign-up makes two more."""
    world.put(a_node(**UP, device_at=world.clock()))
    world.put(a_model())
    wire = Wire()
    processes.a_device_service(world.through(wire)).work(DATASET, api_key=LEGACY_KEY)

    assert wire.calls == [
        "dynamodb.get_item dataset_table",
        "dynamodb.get_item key_table",
        "dynamodb.get_item key_table",
        "dynamodb.query user_table",
        "dynamodb.get_item node_table",
        "dynamodb.query training_table",
    ]


def test_device_request_calls_nothing_but_tables(world, devices):
    """A request of a device must not wait for CloudFormation or a node."""
    world.stacks.away = True
    world.server.silent = True
    world.put(a_node(**UP))
    world.put(a_model())

    assert [model.model_id for model in devices.work(DATASET, api_key=LEGACY_KEY).models] == [MODEL]


# Reports of loss


@pytest.fixture
def model(world):
    world.put(a_model())


@pytest.fixture
def report(world, model):
    def send(loss, acc=-1.0, model_id=MODEL, api_key="", **rules):
        service = processes.a_device_service(world, **rules)
        return service.record_loss(model_id, loss, acc, api_key=api_key)

    return send


class TestCounting:
    def test_reports_add_up_to_their_mean(self, report, world):
        """The marketplace shows the mean loss over the devices of the cycle."""
        counted = [report(loss) for loss in (0.1, 0.2, 0.6)]

        assert counted == [True, True, True]
        assert world.models.get(MODEL).totals.loss == pytest.approx(0.3)

    def test_unmeasured_accuracy_is_left_out_of_the_mean(self, report, world):
        """The pod sends -1 for an accuracy that it did not measure."""
        report(0.1, -1)
        report(0.1, 0.8)

        assert world.models.get(MODEL).totals.acc == pytest.approx(0.8)
        assert world.models.get(MODEL).totals.devices == 2

    def test_outlier_moves_the_mean_of_few_but_not_their_median(self, report, world):
        """The median is recorded beside the mean because a single outlier can't move it."""
        for loss in (0.1, 0.2, 0.3, 1e6):
            report(loss)
        totals = world.models.get(MODEL).totals

        assert totals.loss > 1e5
        assert totals.median_loss == pytest.approx(0.25)

    def test_forged_reports_erase_nothing(self, report, world):
        """Reports need no credential: extreme ones are refused, or leave the shown loss among the honest."""
        for number in range(40):
            report(0.5 + number / 100)
        for loss in (1e308, -1e308, 3.4e38, 1.1e6):
            with pytest.raises(InvalidRequest):
                report(loss)
        honest = world.models.get(MODEL).totals.loss_sum
        for loss in (1e6, -1e6, -1e6):
            report(loss)
        shown = world.item("model_table", MODEL)["loss_this_cycle"]

        assert world.models.get(MODEL).totals.loss_sum == honest - 1e6
        assert 0.5 < shown < 0.9

    def test_closed_cycle_shows_the_robust_mean(self, report, world):
        """As the running cycle does."""
        for _ in range(20):
            report(0.5)
        report(1e6)
        world.models.close_cycle(world.models.get(MODEL), Progress(10), world.clock.now)
        model = world.models.get(MODEL)

        assert [cycle.loss for cycle in model.history] == [0.5]
        assert world.item("model_table", MODEL)["loss_this_cycle"] == Decimal("0.5")

    def test_sample_is_bounded(self, report, world):
        """The item stays small, however many devices report."""
        for number in range(100):
            report(float(number))
        totals = world.models.get(MODEL).totals

        assert totals.devices == 100
        assert len(totals.sample) == 31


class TestAcceptance:
    def test_report_for_an_unknown_model_is_not_found(self, report):
        """The report does not create an item."""
        with pytest.raises(NotFound):
            report(0.5, model_id="unknown")

    @pytest.mark.parametrize("seen", [0.0, 86_401.0])
    def test_report_is_refused_without_a_recent_valid_key(self, report, world, seen):
        """A valid key at `/info` authorizes the dataset's reports for a day. Nothing is written."""
        world.put(a_node(device_at=world.clock.now - seen if seen else 0.0))
        before = world.snapshot()
        with pytest.raises(NotFound):
            report(0.5)

        assert world.snapshot() == before

    @pytest.mark.parametrize("rules", [{}, {"key_required": True}], ids=["no key", "key required"])
    def test_reports_that_are_not_authorized_are_refused_alike(self, world, rules):
        """An unknown model, one that is not accepted, one whose app has not called: after the same reads."""
        world.put(a_node())
        world.put(a_model())
        world.put(a_submission(model_id="submitted"))
        refusals, reads = [], []
        for model_id in (MODEL, "submitted", "unknown"):
            wire = Wire()
            service = processes.a_device_service(world.through(wire), **rules)
            with pytest.raises((NotFound, Unauthenticated)) as refusal:
                service.record_loss(model_id, 11.0, -1, api_key="wrong")
            refusals.append((refusal.type, str(refusal.value).replace(model_id, "")))
            reads.append(wire.calls)

        assert refusals[0] == refusals[1] == refusals[2]
        assert reads[0] == reads[1] == reads[2]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 10.5, -10.5])
    def test_loss_must_be_finite_and_within_the_bound(self, report, world, value):
        """The bound is configurable."""
        with pytest.raises(InvalidRequest):
            report(value, bound=10.0)

        assert world.models.get(MODEL).totals.devices == 0

    def test_key_can_be_required(self, report, world):
        """An operator can require the API key once every pod sends it."""
        world.put(a_node())
        with pytest.raises(Unauthenticated):
            report(0.5, key_required=True)

        assert report(0.5, key_required=True, api_key=LEGACY_KEY) is True

    def test_late_report_is_ignored(self, report, world):
        """A report shortly after a model's last cycle is neither counted nor rejected."""
        world.models.withdraw(world.models.get(MODEL), world.clock.now)
        world.clock.tick(599)

        assert report(0.5) is False
        assert world.models.get(MODEL).totals.devices == 0
        assert "rejected_reports" not in world.item("model_table", MODEL)

    def test_report_after_the_late_period_is_a_conflict(self, report, world):
        """No device trains the model any more."""
        world.models.withdraw(world.models.get(MODEL), world.clock.now)
        world.clock.tick(601)

        with pytest.raises(Conflict):
            report(0.5)

    def test_rejected_reports_are_counted(self, report, world):
        """The count shows owner and operator that reports of authorized devices are being refused."""
        for _ in range(3):
            with pytest.raises(InvalidRequest):
                report(0.5, bound=0.25)

        assert world.item("model_table", MODEL)["rejected_reports"] == 3


@pytest.mark.usefixtures("model")
class TestAuthorization:
    def test_valid_key_at_info_authorizes_reports(self, report, world, devices):
        """`/model_loss` accepts reports by the time that `/info` recorded."""
        world.put(a_node())
        devices.work(DATASET, api_key=LEGACY_KEY)

        assert report(0.5) is True

    def test_valid_key_is_recorded_once_a_minute(self, world, devices):
        """A write for each request would cost more than all reads of the request."""
        recorded = []
        for _ in range(5):
            devices.work(DATASET, api_key=LEGACY_KEY)
            recorded.append(world.nodes.get(node_id_of(DATASET)).device_at)
            world.clock.tick(25)

        assert len(set(recorded)) == 2

    def test_authorization_is_cached(self, world):
        """The node's record is not read again for each report while the authorization lasts."""
        service = processes.a_device_service(world)
        service.record_loss(MODEL, 0.5, -1.0, api_key="")
        world.remove("node_table")

        assert service.record_loss(MODEL, 0.5, -1.0, api_key="") is True

    def test_cached_authorization_expires(self, world):
        """The authorization ends a day after the last valid key that was read."""
        service = processes.a_device_service(world)
        service.record_loss(MODEL, 0.5, -1.0, api_key="")
        world.clock.tick(86_401)

        with pytest.raises(NotFound):
            service.record_loss(MODEL, 0.5, -1.0, api_key="")
