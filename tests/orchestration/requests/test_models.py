"""Use cases of a model's owner, and of the holder of its download link."""

from urllib.parse import parse_qs, urlsplit

import pytest

from orchestration.domain.errors import AccessDenied, Conflict, NotFound, Overtaken
from orchestration.domain.node import node_id_of
from tests.builders import DATASET, DEVELOPER, MODEL, SCIENTIST, STRANGER, a_model, a_submission
from tests.fakes import Wire
from tests.processes import LINKS, a_model_service, reconcile, request_node


def key_in(link):
    """Return the signed key of a download link."""
    (key,) = parse_qs(urlsplit(link).query)["key"]
    return key


class TestWithdraw:
    def test_owner_ends_the_training(self, models, world):
        """The model becomes inactive and its end is recorded."""
        world.put(a_model())
        models.withdraw(MODEL, caller=SCIENTIST)

        assert not world.models.get(MODEL).is_active
        assert world.models.get(MODEL).ended_at == world.clock.now

    def test_withdrawn_model_loses_its_link_and_is_not_retrieved(self, models, world):
        """Withdrawing voids the download link of a complete model."""
        world.put(a_model(is_active=False, percent_complete=100, retrieval_due=True, download_key="k"))
        models.withdraw(MODEL, caller=SCIENTIST)

        assert world.models.get(MODEL).download_key is None
        assert world.models.to_retrieve(DATASET) == []

    def test_other_callers_are_refused(self, models, world):
        """Only the model's owner may withdraw it, not the dataset's owner."""
        world.put(a_model())

        for caller in (STRANGER, DEVELOPER):
            with pytest.raises(AccessDenied):
                models.withdraw(MODEL, caller=caller)
        assert world.models.get(MODEL).is_active

    def test_unknown_model_can_not_be_withdrawn(self, models):
        """A withdrawal never creates an item."""
        with pytest.raises(NotFound):
            models.withdraw("unknown", caller=SCIENTIST)

    def test_second_withdrawal_changes_nothing(self, models, world):
        """A client that did not get the answer may repeat the request."""
        world.put(a_model())
        first = models.withdraw(MODEL, caller=SCIENTIST)
        second = models.withdraw(MODEL, caller=SCIENTIST)

        assert first == second == MODEL

    def test_node_stops_after_its_last_model_is_withdrawn(self, models, nodes, world):
        """A withdrawn model does not keep its node running."""
        world.put(a_submission())
        request_node(nodes)
        reconcile(world, passes=5)
        models.withdraw(MODEL, caller=SCIENTIST)
        reconcile(world)

        assert len(world.stacks.launched) == 1
        assert world.stacks.standing(node_id_of(DATASET)) == []


class TestDownload:
    @pytest.fixture
    def trained(self, world):
        world.put(a_model(is_active=False, percent_complete=100, download_key="the key"))
        return key_in(LINKS.link(MODEL, "the key"))

    def test_holder_of_the_link_gets_a_url_of_the_file(self, models, trained):
        """The service presigns a new URL for each request."""
        assert models.download_url(MODEL, trained, "state") == f"https://bucket.test/{MODEL}/state?presigned"

    @pytest.mark.parametrize("key", ["", "the key", "the key.forged"])
    @pytest.mark.usefixtures("trained")
    def test_forged_key_is_rejected(self, models, key):
        """A key without a valid signature is rejected."""
        with pytest.raises(NotFound, match="not valid"):
            models.download_url(MODEL, key)

    @pytest.mark.usefixtures("trained")
    def test_replaced_key_is_rejected(self, models):
        """The service compares the key with the model's current one, besides checking the signature."""
        with pytest.raises(NotFound, match="no longer valid"):
            models.download_url(MODEL, key_in(LINKS.link(MODEL, "an earlier key")))

    def test_key_of_another_model_is_rejected(self, models, world, trained):
        """The signature covers the model's id, so it is not valid for another model with the same key."""
        world.put(a_model(model_id="other", is_active=False, download_key="the key"))

        with pytest.raises(NotFound, match="not valid"):
            models.download_url("other", trained)

    def test_model_that_is_not_retrieved_has_no_file(self, models, world):
        """A model without a download key is not found, even for an empty key with a valid signature."""
        world.put(a_model(model_id="due", retrieval_due=True))

        with pytest.raises(NotFound):
            models.download_url("due", key_in(LINKS.link("due", "")))

    def test_withdrawing_the_model_voids_its_link(self, models, trained):
        """The file stays in the bucket, and the service returns no URL of it."""
        models.withdraw(MODEL, caller=SCIENTIST)

        with pytest.raises(NotFound):
            models.download_url(MODEL, trained)

    def test_unknown_model_is_not_found(self, models):
        """The error is the same as for a wrong key."""
        with pytest.raises(NotFound):
            models.download_url("unknown", key_in(LINKS.link("unknown", "the key")))


class TestRotateLink:
    @pytest.fixture(autouse=True)
    def _trained(self, world):
        world.put(a_model(is_active=False, percent_complete=100, download_key="the key"))

    def test_new_link_replaces_the_old_one(self, models):
        """The old link is void at once."""
        link = models.rotate_link(MODEL, caller=SCIENTIST)

        assert models.download_url(MODEL, key_in(link))
        with pytest.raises(NotFound):
            models.download_url(MODEL, key_in(LINKS.link(MODEL, "the key")))

    def test_only_the_owner_may_rotate(self, models):
        """The owner of the dataset is refused as well."""
        for caller in (STRANGER, DEVELOPER):
            with pytest.raises(AccessDenied):
                models.rotate_link(MODEL, caller=caller)

    def test_model_without_a_link_has_none_to_replace(self, models, world):
        """A model that trains or was withdrawn has no link; rotating one is a conflict."""
        world.put(a_model(model_id="training"))

        with pytest.raises(Conflict, match="no download link"):
            models.rotate_link("training", caller=SCIENTIST)

    def test_of_two_rotations_at_once_one_is_refused(self, models, world):
        """Every link that a caller receives works."""
        links = []
        other = Wire(1, lambda: links.append(models.rotate_link(MODEL, caller=SCIENTIST)))

        with pytest.raises(Overtaken):
            a_model_service(world.through(other)).rotate_link(MODEL, caller=SCIENTIST)
        assert models.download_url(MODEL, key_in(links[0]))
