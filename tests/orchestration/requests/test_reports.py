"""Reports of devices, which send no credential."""

import pytest

from orchestration.domain.errors import AccessDenied, Conflict, InvalidRequest, NotFound, Unauthenticated
from orchestration.domain.node import node_id_of
from tests import processes
from tests.builders import DATASET, LEGACY_KEY, MODEL, a_model, a_node


@pytest.fixture(autouse=True)
def _model(world):
    world.put(a_model())


@pytest.fixture
def report(world):
    def send(loss, acc=-1.0, model_id=MODEL, api_key="", **rules):
        service = processes.a_report_service(world, **rules)
        return service.record(model_id, loss, acc, api_key=api_key)

    return send


class TestCounting:
    def test_reports_add_up_to_their_mean(self, report, world):
        """What the marketplace shows is the mean over the devices of the cycle."""
        counted = [report(loss) for loss in (0.1, 0.2, 0.6)]

        assert counted == [True, True, True]
        assert world.models.get(MODEL).tally.loss == pytest.approx(0.3)

    def test_an_unmeasured_accuracy_enters_no_mean(self, report, world):
        """The pod always sends -1."""
        report(0.1, -1)
        report(0.1, 0.8)

        assert world.models.get(MODEL).tally.acc == pytest.approx(0.8)
        assert world.models.get(MODEL).tally.devices == 2

    def test_a_liar_moves_the_mean_but_not_the_median(self, report, world):
        """Beside the mean stands what an outlier can't move."""
        for loss in (0.1, 0.2, 0.3, 1e30):
            report(loss)
        tally = world.models.get(MODEL).tally

        assert tally.loss > 1e29
        assert tally.median_loss == pytest.approx(0.25)

    def test_the_sample_is_bounded(self, report, world):
        """However many report, an item stays small."""
        for number in range(100):
            report(float(number))
        tally = world.models.get(MODEL).tally

        assert tally.devices == 100
        assert len(tally.sample) == 31


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

        assert world.models.get(MODEL).tally.devices == 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 10.5, -10.5])
    def test_a_loss_must_be_finite_and_within_the_bound(self, report, world, value):
        """The bound is a setting."""
        with pytest.raises(InvalidRequest):
            report(value, bound=10.0)

        assert world.models.get(MODEL).tally.devices == 0

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
        assert world.models.get(MODEL).tally.devices == 0
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


class TestVouching:
    def test_a_valid_key_at_info_vouches_for_reports(self, report, world, catalogue):
        """What `/info` notes is what `/model_loss` goes by."""
        world.put(a_node())
        catalogue.work(DATASET, api_key=LEGACY_KEY)

        assert report(0.5) is True

    def test_it_is_noted_once_a_minute(self, world, catalogue):
        """A write for each phone that asks would cost more than all the rest."""
        noted = []
        for _ in range(5):
            catalogue.work(DATASET, api_key=LEGACY_KEY)
            noted.append(world.nodes.get(node_id_of(DATASET)).device_at)
            world.clock.tick(25)

        assert len(set(noted)) == 2

    def test_a_vouched_dataset_is_not_read_again_for_each_report(self, world):
        """Every phone reports; what was true for a day needs no asking."""
        service = processes.a_report_service(world)
        service.record(MODEL, 0.5, -1.0, api_key="")
        world.remove("node_table")

        assert service.record(MODEL, 0.5, -1.0, api_key="") is True

    def test_its_time_runs_out_all_the_same(self, world):
        """A day after the last call, as it was read."""
        service = processes.a_report_service(world)
        service.record(MODEL, 0.5, -1.0, api_key="")
        world.clock.tick(86_401)

        with pytest.raises(AccessDenied):
            service.record(MODEL, 0.5, -1.0, api_key="")
