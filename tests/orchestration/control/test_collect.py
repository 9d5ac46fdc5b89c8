"""The file first, the word that it is there last; and who may have it."""

import pytest

from orchestration.control.collect import DownloadService
from orchestration.domain.errors import NotFound
from orchestration.domain.node import StackPhase, node_id_of
from orchestration.domain.ports import NodeCredential
from tests.builders import DATASET, MODEL, a_model, a_node
from tests.fakes import FakeStack, Wire
from tests.processes import a_retrieval

NODE = a_node(generation=1)
ADDRESS = FakeStack(node_id_of(DATASET), 1, "arn").address


@pytest.fixture
def due(world):
    """A complete model on a node that is up."""
    node_id = node_id_of(DATASET)
    world.stacks.stacks[(node_id, 1)] = FakeStack(node_id, 1, "arn", StackPhase.USABLE)
    world.put(a_model(is_active=False, percent_complete=100, retrieval_due=True, hosted_as="Net-1-Ada"))
    world.secrets.ensure(NODE)
    return world


def test_the_node_is_asked_for_the_name_that_it_knows(due, retrieval):
    """It was uploaded in its own letter case."""
    retrieval.retrieve_due(NODE, ADDRESS)

    assert due.server.asked_for == ["Net-1-Ada"]
    assert due.bucket.files.keys() == {MODEL}


def test_the_node_is_asked_with_what_it_knows_itself(due, retrieval):
    """Its name, and the password of this generation."""
    retrieval.retrieve_due(NODE, ADDRESS)
    password = due.secrets.passwords[NODE.node_id, 1]

    assert due.server.credentials == [NodeCredential(NODE.node_id, password)]
    assert password not in repr(due.server.credentials)


def test_no_secret_is_asked_for_while_nothing_is_due(world):
    """A look at a node costs no call."""
    wire = Wire()
    a_retrieval(world.through(wire)).retrieve_due(NODE, ADDRESS)

    assert wire.calls == ["dynamodb.query model_table"]


def test_a_model_stays_due_while_the_secret_can_not_be_read(due, retrieval):
    """Its owner is told why."""
    due.secrets.discard(NODE)
    retrieval.retrieve_due(NODE, ADDRESS)

    assert due.models.get(MODEL).retrieval_due
    assert "Secrets Manager" in due.item("model_table", MODEL)["retrieval_error"]
    assert due.bucket.files == {}


def test_the_word_that_it_is_there_comes_last(due):
    """Dying in between only means doing it again."""
    wire = Wire()
    a_retrieval(due.through(wire)).retrieve_due(NODE, ADDRESS)

    assert wire.calls == [
        "dynamodb.query model_table",
        "secrets.credential",
        "server.trained_model",
        "bucket.store",
        "dynamodb.update_item model_table",
        "dynamodb.put_item audit_table",
    ]


def test_a_model_withdrawn_while_it_is_retrieved_gets_no_link(due):
    """The withdrawal has the last word."""
    wire = Wire(3, lambda: due.models.withdraw(due.models.get(MODEL), 0.0))
    a_retrieval(due.through(wire)).retrieve_due(NODE, ADDRESS)

    assert "download_link" not in due.item("model_table", MODEL)
    assert due.models.get(MODEL).download_key is None


def test_a_key_that_is_out_is_kept(due, retrieval):
    """Retrieving again must not break a link that somebody holds."""
    due.put(a_model(is_active=False, percent_complete=100, retrieval_due=True, download_key="k0"))
    retrieval.retrieve_due(NODE, ADDRESS)

    assert due.models.get(MODEL).download_key == "k0"


def test_keys_of_two_models_differ(due, retrieval):
    """A link says nothing about others."""
    due.put(a_model(model_id="other", is_active=False, retrieval_due=True))
    retrieval.retrieve_due(NODE, ADDRESS)
    keys = {due.models.get(model_id).download_key for model_id in (MODEL, "other")}

    assert len(keys) == 2
    assert all(len(key) >= 22 for key in keys)


class TestDownload:
    @pytest.fixture
    def downloads(self, world):
        world.put(a_model(is_active=False, percent_complete=100, download_key="the key"))
        return DownloadService(world.models, world.bucket.fresh_url, "https://link.test/{}/{}".format)

    def test_the_holder_of_the_key_is_sent_to_the_file(self, downloads):
        """A fresh URL each time."""
        assert downloads.url(MODEL, "the key") == f"https://bucket.test/{MODEL}?presigned"

    @pytest.mark.parametrize("key", ["", "another key", "the keyy"])
    def test_another_key_opens_nothing(self, downloads, key):
        """The key of an earlier link neither."""
        with pytest.raises(NotFound):
            downloads.url(MODEL, key)

    def test_a_model_that_is_not_retrieved_has_no_file(self, downloads, world):
        """Not even for the empty key."""
        world.put(a_model(model_id="due", retrieval_due=True))

        with pytest.raises(NotFound):
            downloads.url("due", "")

    def test_withdrawing_the_model_takes_the_file_back(self, downloads, world):
        """The link that is out stops working."""
        world.models.withdraw(world.models.get(MODEL), 0.0)

        with pytest.raises(NotFound):
            downloads.url(MODEL, "the key")

    def test_an_unknown_model_is_not_found(self, downloads):
        """As for a key that is wrong."""
        with pytest.raises(NotFound):
            downloads.url("nobody's", "the key")
