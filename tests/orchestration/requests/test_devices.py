"""What a phone is told."""

import pytest

from orchestration.domain.errors import AccessDenied, Conflict, InvalidRequest, NotFound, Unauthenticated
from orchestration.domain.node import DesiredState, NodeStatus, node_id_of
from orchestration.requests.devices import Work
from tests import processes
from tests.builders import DATASET, LEGACY_KEY, MODEL, a_dataset, a_model, a_node, a_submission

RUNNING, STOPPED = DesiredState

UP = {"desired_state": RUNNING, "status": NodeStatus.READY, "address": "node.test"}


@pytest.fixture
def work(devices):
    return lambda dataset_id=DATASET: devices.work(dataset_id, api_key=LEGACY_KEY)


def test_the_first_contact_marks_the_dataset_once(work, world):
    """The marketplace shows it only after that."""
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
    ids=["none", "deploying", "retiring", "absent", "wished down", "without an address"],
)
def test_while_no_node_is_up_a_phone_waits(work, world, node):
    """Nobody is sent to a node that isn't there or goes away."""
    world.put(a_model())
    if node:
        world.put(node)

    assert work() == Work("no node available yet")


def test_models_that_train_are_listed_with_the_node(work, world):
    """Neither complete nor withdrawn ones, nor what /create never accepted, nor another dataset's."""
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


def test_a_node_without_models_is_still_an_address(work, world):
    """An empty list is an answer that the pod reads."""
    world.put(a_node(**UP))

    assert work() == Work(address="node.test", models=())


def test_a_key_that_does_not_open_the_dataset_changes_nothing(devices, world):
    """Not even the first contact."""
    world.put(a_dataset(is_set_up=False))

    with pytest.raises(Unauthenticated):
        devices.work(DATASET, api_key="wrong")
    assert not world.datasets.get(DATASET).is_set_up


def test_an_unknown_dataset_is_not_found(work):
    """Whatever the key."""
    with pytest.raises(NotFound):
        work("nowhere")


def test_a_phone_causes_no_call_outside_the_tables(world, devices):
    """One process must not starve while another call waits for CloudFormation or a node."""
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
        """What the marketplace shows is the mean over the devices of the cycle."""
        counted = [report(loss) for loss in (0.1, 0.2, 0.6)]

        assert counted == [True, True, True]
        assert world.models.get(MODEL).totals.loss == pytest.approx(0.3)

    def test_an_unmeasured_accuracy_enters_no_mean(self, report, world):
        """The pod always sends -1."""
        report(0.1, -1)
        report(0.1, 0.8)

        assert world.models.get(MODEL).totals.acc == pytest.approx(0.8)
        assert world.models.get(MODEL).totals.devices == 2

    def test_a_liar_moves_the_mean_but_not_the_median(self, report, world):
        """Beside the mean stands what an outlier can't move."""
        for loss in (0.1, 0.2, 0.3, 1e30):
            report(loss)
        totals = world.models.get(MODEL).totals

        assert totals.loss > 1e29
        assert totals.median_loss == pytest.approx(0.25)

    def test_the_sample_is_bounded(self, report, world):
        """However many report, an item stays small."""
        for number in range(100):
            report(float(number))
        totals = world.models.get(MODEL).totals

        assert totals.devices == 100
        assert len(totals.sample) == 31


class TestBelief:
    def test_a_report_for_nobodys_model_is_not_found(self, report):
        """And no item is made of it."""
        with pytest.raises(NotFound):
            report(0.5, model_id="nobody's")

    @pytest.mark.parametrize("seen", [0.0, 86_401.0])
    def test_a_dataset_whose_devices_are_silent_gets_no_reports(self, report, world, seen):
        """A device's valid key vouches for a day: who has no app can't report."""
        world.put(a_node(device_at=world.clock.now - seen if seen else 0.0))
        with pytest.raises(AccessDenied):
            report(0.5)

        assert world.models.get(MODEL).totals.devices == 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 10.5, -10.5])
    def test_a_loss_must_be_finite_and_within_the_bound(self, report, world, value):
        """The bound is a setting."""
        with pytest.raises(InvalidRequest):
            report(value, bound=10.0)

        assert world.models.get(MODEL).totals.devices == 0

    def test_the_key_can_be_made_compulsory(self, report, world):
        """For the day on which the last pod sends it."""
        world.put(a_node())
        with pytest.raises(Unauthenticated):
            report(0.5, key_required=True)

        assert report(0.5, key_required=True, api_key=LEGACY_KEY) is True

    def test_a_straggler_is_no_offence(self, report, world):
        """The last report of a model may come after its last cycle; it is not counted."""
        world.models.withdraw(world.models.get(MODEL), world.clock.now)
        world.clock.tick(599)

        assert report(0.5) is False
        assert world.models.get(MODEL).totals.devices == 0
        assert "rejected_reports" not in world.item("model_table", MODEL)

    def test_after_that_a_finished_model_takes_no_reports(self, report, world):
        """Nobody trains it any more."""
        world.models.withdraw(world.models.get(MODEL), world.clock.now)
        world.clock.tick(601)

        with pytest.raises(Conflict):
            report(0.5)

    def test_what_is_not_believed_is_counted(self, report, world):
        """Owner and operator see that somebody tries."""
        world.put(a_node())
        for _ in range(3):
            with pytest.raises(AccessDenied):
                report(0.5)

        assert world.item("model_table", MODEL)["rejected_reports"] == 3


@pytest.mark.usefixtures("model")
class TestVouching:
    def test_a_valid_key_at_info_vouches_for_reports(self, report, world, devices):
        """What `/info` notes is what `/model_loss` goes by."""
        world.put(a_node())
        devices.work(DATASET, api_key=LEGACY_KEY)

        assert report(0.5) is True

    def test_it_is_noted_once_a_minute(self, world, devices):
        """A write for each phone that asks would cost more than all the rest."""
        noted = []
        for _ in range(5):
            devices.work(DATASET, api_key=LEGACY_KEY)
            noted.append(world.nodes.get(node_id_of(DATASET)).device_at)
            world.clock.tick(25)

        assert len(set(noted)) == 2

    def test_a_vouched_dataset_is_not_read_again_for_each_report(self, world):
        """Every phone reports; what was true for a day needs no asking."""
        service = processes.a_device_service(world)
        service.record_loss(MODEL, 0.5, -1.0, api_key="")
        world.remove("node_table")

        assert service.record_loss(MODEL, 0.5, -1.0, api_key="") is True

    def test_its_time_runs_out_all_the_same(self, world):
        """A day after the last call, as it was read."""
        service = processes.a_device_service(world)
        service.record_loss(MODEL, 0.5, -1.0, api_key="")
        world.clock.tick(86_401)

        with pytest.raises(AccessDenied):
            service.record_loss(MODEL, 0.5, -1.0, api_key="")
