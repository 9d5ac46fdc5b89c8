"""Use cases of a model's owner, and of whoever holds its download link."""

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
    def test_the_owner_ends_the_training(self, models, world):
        """The model is inactive and keeps no claim on its node."""
        world.put(a_model())
        models.withdraw(MODEL, caller=SCIENTIST)

        assert not world.models.get(MODEL).is_active
        assert world.models.get(MODEL).ended_at == world.clock.now

    def test_a_complete_model_loses_its_link_and_is_not_retrieved_any_more(self, models, world):
        """Withdrawing takes back what was handed out."""
        world.put(a_model(is_active=False, percent_complete=100, retrieval_due=True, download_key="k"))
        models.withdraw(MODEL, caller=SCIENTIST)

        assert world.models.get(MODEL).download_key is None
        assert world.models.to_retrieve(DATASET) == []

    def test_nobody_else_may(self, models, world):
        """Not even the dataset's owner."""
        world.put(a_model())

        for caller in (STRANGER, DEVELOPER):
            with pytest.raises(AccessDenied):
                models.withdraw(MODEL, caller=caller)
        assert world.models.get(MODEL).is_active

    def test_an_unknown_model_is_not_found(self, models):
        """A withdrawal never makes an item."""
        with pytest.raises(NotFound):
            models.withdraw("nobody's", caller=SCIENTIST)

    def test_twice_is_as_once(self, models, world):
        """A client that lost the answer may send it again."""
        world.put(a_model())
        first = models.withdraw(MODEL, caller=SCIENTIST)
        second = models.withdraw(MODEL, caller=SCIENTIST)

        assert first == second == MODEL

    def test_the_node_of_the_last_model_goes_after_it(self, models, nodes, world):
        """A withdrawn model holds nothing awake."""
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
        """A new one each time."""
        assert models.download_url(MODEL, trained) == f"https://bucket.test/{MODEL}?presigned"

    @pytest.mark.parametrize("key", ["", "the key", "the key.forged"])
    @pytest.mark.usefixtures("trained")
    def test_forged_key_opens_nothing(self, models, key):
        """Nor does a key without a signature."""
        with pytest.raises(NotFound, match="not valid"):
            models.download_url(MODEL, key)

    @pytest.mark.usefixtures("trained")
    def test_key_that_was_replaced_opens_nothing(self, models):
        """Its signature is valid all the same."""
        with pytest.raises(NotFound, match="no longer valid"):
            models.download_url(MODEL, key_in(LINKS.link(MODEL, "an earlier key")))

    def test_key_of_another_model_opens_nothing(self, models, world, trained):
        """Even if both have the same key."""
        world.put(a_model(model_id="other", is_active=False, download_key="the key"))

        with pytest.raises(NotFound, match="not valid"):
            models.download_url("other", trained)

    def test_model_that_is_not_retrieved_has_no_file(self, models, world):
        """Not even for an empty key with a valid signature."""
        world.put(a_model(model_id="due", retrieval_due=True))

        with pytest.raises(NotFound):
            models.download_url("due", key_in(LINKS.link("due", "")))

    def test_withdrawing_the_model_voids_its_link(self, models, trained):
        """The file stays in the bucket, and nobody gets a URL of it."""
        models.withdraw(MODEL, caller=SCIENTIST)

        with pytest.raises(NotFound):
            models.download_url(MODEL, trained)

    def test_unknown_model_is_not_found(self, models):
        """The same error as for a wrong key."""
        with pytest.raises(NotFound):
            models.download_url("nobody's", key_in(LINKS.link("nobody's", "the key")))


class TestRotateLink:
    @pytest.fixture(autouse=True)
    def _trained(self, world):
        world.put(a_model(is_active=False, percent_complete=100, download_key="the key"))

    def test_new_link_replaces_the_old_one(self, models):
        """The old one is void at once."""
        link = models.rotate_link(MODEL, caller=SCIENTIST)

        assert models.download_url(MODEL, key_in(link))
        with pytest.raises(NotFound):
            models.download_url(MODEL, key_in(LINKS.link(MODEL, "the key")))

    def test_only_the_owner_may(self, models):
        """Not even the owner of the dataset."""
        for caller in (STRANGER, DEVELOPER):
            with pytest.raises(AccessDenied):
                models.rotate_link(MODEL, caller=caller)

    def test_model_without_a_link_has_none_to_replace(self, models, world):
        """It trains, or it was withdrawn."""
        world.put(a_model(model_id="training"))

        with pytest.raises(Conflict, match="no download link"):
            models.rotate_link("training", caller=SCIENTIST)

    def test_of_two_rotations_at_once_one_is_refused(self, models, world):
        """Each caller who gets a link gets one that works."""
        links = []
        other = Wire(1, lambda: links.append(models.rotate_link(MODEL, caller=SCIENTIST)))

        with pytest.raises(Overtaken):
            a_model_service(world.through(other)).rotate_link(MODEL, caller=SCIENTIST)
        assert models.download_url(MODEL, key_in(links[0]))
