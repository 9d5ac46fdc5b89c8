"""Trained models are retrieved from nodes into the bucket; silent models are resynced."""

from dataclasses import replace

import pytest

from orchestration.domain.cycle import Progress
from orchestration.domain.errors import NodeUnreachable
from orchestration.domain.node import NodeStatus, StackPhase, node_id_of
from orchestration.domain.ports import NodeCredential
from tests.builders import DATASET, MODEL, a_model, a_node, a_submission
from tests.fakes import FakeStack, Wire
from tests.processes import SILENT_AFTER, a_node_service, a_reconciler, a_retrieval, reconcile, request_node

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


@pytest.fixture
def training_model(world, progress):
    """A model of ten cycles on a node of the original kind, which has said two words."""
    world.put(a_submission())
    request_node(a_node_service(world))
    reconcile(world, passes=4)
    assert world.nodes.get(NODE.node_id).status is NodeStatus.READY
    for percent in (10, 20):
        progress.record(MODEL, Progress(percent), node=world.nodes.get(NODE.node_id))
    return world


def test_a_model_whose_last_word_got_lost_comes_home(training_model):
    """It would stand at 20 per cent for ever."""
    training_model.server.checkpoints[MODEL] = 11
    training_model.clock.tick(SILENT_AFTER + 1)
    reconcile(training_model, passes=2)
    model = training_model.models.get(MODEL)

    assert (model.percent_complete, model.is_active) == (100, False)
    assert training_model.bucket.files == {MODEL: b"trained"}
    assert {(login.user, login.password) for login in training_model.server.credentials} == {
        (NODE.node_id, training_model.secrets.passwords[NODE.node_id, 1])
    }


def test_a_word_that_got_lost_in_between_is_made_up_for(training_model, logs):
    """The history shows a cycle, the owner sees progress, and the model is fresh again."""
    training_model.server.checkpoints[MODEL] = 6
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).run_pass()
    model = training_model.models.get(MODEL)

    assert (model.percent_complete, model.totals.cycle, model.is_active) == (50, 5, True)
    assert model.progress_at == training_model.clock.now
    assert "model.resynced" in [entry["event"] for entry in logs]


def test_a_model_that_just_takes_its_time_is_left_as_it_is(training_model):
    """Nothing is made up; it is asked for once an hour, not at every look."""
    before = training_model.models.get(MODEL)
    training_model.clock.tick(SILENT_AFTER + 1)
    reconciler = a_reconciler(training_model)
    for _ in range(10):
        reconciler.run_pass()
        training_model.clock.tick(SILENT_AFTER / 5)

    assert training_model.models.get(MODEL) == before
    assert training_model.server.asked_for == [f"{MODEL} beyond 3"] * 2


def test_a_model_that_speaks_is_not_asked_for(training_model):
    """Its words are enough."""
    reconcile(training_model, passes=10)

    assert training_model.server.asked_for == []


def test_a_node_that_does_not_say_is_asked_again_later(training_model, logs, monkeypatch):
    """Silence of a node is no word; the rest of the pass goes on."""

    def silent(*_: object, **__: object) -> int:
        raise NodeUnreachable("The node did not say how far the model is.")

    monkeypatch.setattr(training_model.server, "newest_checkpoint", silent)
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).run_pass()

    assert training_model.models.get(MODEL).percent_complete == 20
    assert "model.not_resynced" in [entry["event"] for entry in logs]


def test_a_word_that_comes_late_after_all_sets_the_percentage_right(training_model, progress):
    """Found closed without it, the cycle could not say how far the model is."""
    training_model.put(replace(training_model.models.get(MODEL), history=()))
    training_model.server.checkpoints[MODEL] = 11
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).run_pass()
    healed = training_model.models.get(MODEL)
    progress.record(MODEL, Progress(100, 10), node=training_model.nodes.get(NODE.node_id))

    assert (healed.percent_complete, healed.totals.cycle) == (20, 10)
    assert training_model.models.get(MODEL).percent_complete == 100
