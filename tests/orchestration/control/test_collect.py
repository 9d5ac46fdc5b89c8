"""Retrieval of trained models into the bucket, and resync of silent models."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import sleep

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
    """Put a complete model on a ready node, and return the world."""
    node_id = node_id_of(DATASET)
    world.stacks.stacks[(node_id, 1)] = FakeStack(node_id, 1, "arn", StackPhase.USABLE)
    world.put(a_model(is_active=False, percent_complete=100, retrieval_due=True, hosted_as="Net-1-Ada"))
    world.secrets.ensure(NODE)
    return world


def test_model_is_retrieved_under_its_name_on_the_node(due, retrieval):
    """The node stores the model in the letter case of its upload."""
    retrieval.retrieve_due(NODE, ADDRESS)

    assert due.server.asked_for == ["Net-1-Ada"]
    assert due.bucket.files.keys() == {MODEL}


def test_retrieval_uses_the_credential_of_the_generation(due, retrieval):
    """The credential is the node's id and the password of this generation."""
    retrieval.retrieve_due(NODE, ADDRESS)
    password = due.secrets.passwords[NODE.node_id, 1]

    assert due.server.credentials == [NodeCredential(NODE.node_id, password)]
    assert password not in repr(due.server.credentials)


def test_no_secret_is_read_while_no_model_is_due(world):
    """A node without completed models causes one query and no other call."""
    wire = Wire()
    a_retrieval(world.through(wire)).retrieve_due(NODE, ADDRESS)

    assert wire.calls == ["dynamodb.query training_table"]


def test_model_stays_due_while_the_secret_is_unreadable(due, retrieval):
    """The model's item records why the retrieval failed."""
    due.secrets.discard(NODE)
    retrieval.retrieve_due(NODE, ADDRESS)

    assert due.models.get(MODEL).retrieval_due
    assert "Secrets Manager" in due.item("model_table", MODEL)["retrieval_error"]
    assert due.bucket.files == {}


def test_retrieval_is_recorded_after_the_file_is_stored(due):
    """If the process dies in between, the retrieval is repeated."""
    wire = Wire()
    a_retrieval(due.through(wire)).retrieve_due(NODE, ADDRESS)

    assert wire.calls == [
        "dynamodb.query training_table",
        "dynamodb.get_item training_table",
        "secrets.credential",
        "server.trained_model",
        "bucket.store",
        "dynamodb.update_item training_table",
        "dynamodb.update_item model_table",
        "dynamodb.update_item training_table",
        "dynamodb.put_item audit_table",
    ]


def test_two_threads_retrieve_a_model_once_and_not_at_once(due, retrieval):
    """A pass and a request may reconcile the same node; memory suffices for one model."""
    trained, running, most = due.server.trained_model, [], []

    def slow(*arguments):
        running.append(1)
        most.append(len(running))
        sleep(0.05)
        running.pop()
        return trained(*arguments)

    due.server.trained_model = slow
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: retrieval.retrieve_due(NODE, ADDRESS), range(4)))

    assert most == [1]
    assert due.bucket.files.keys() == {MODEL}


def test_failure_in_one_thread_is_not_repeated_by_those_that_wait(due, retrieval):
    """Each failure counts, and the pause after it holds for all threads."""
    trained = due.server.trained_model
    due.server.troubles[MODEL] = [NodeUnreachable("It did not answer.")] * 4

    def slow(*arguments):
        sleep(0.05)
        return trained(*arguments)

    due.server.trained_model = slow
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: retrieval.retrieve_due(NODE, ADDRESS), range(4)))

    assert due.models.get(MODEL).retrieval_failures == 1


def test_model_withdrawn_during_its_retrieval_gets_no_link(due):
    """A withdrawal takes precedence over a retrieval that is under way."""
    wire = Wire(3, lambda: due.models.withdraw(due.models.get(MODEL), 0.0))
    a_retrieval(due.through(wire)).retrieve_due(NODE, ADDRESS)

    assert "download_link" not in due.item("model_table", MODEL)
    assert due.models.get(MODEL).download_key is None


def test_existing_download_key_is_kept(due, retrieval):
    """A second retrieval does not void a link that was handed out."""
    due.put(a_model(is_active=False, percent_complete=100, retrieval_due=True, download_key="k0"))
    retrieval.retrieve_due(NODE, ADDRESS)

    assert due.models.get(MODEL).download_key == "k0"


def test_keys_of_two_models_differ(due, retrieval):
    """Each model gets a random key of at least 22 characters."""
    due.put(a_model(model_id="other", is_active=False, retrieval_due=True))
    retrieval.retrieve_due(NODE, ADDRESS)
    keys = {due.models.get(model_id).download_key for model_id in (MODEL, "other")}

    assert len(keys) == 2
    assert all(len(key) >= 22 for key in keys)


@pytest.fixture
def training_model(world, progress):
    """Put a model of ten cycles on an original node that has reported two cycles."""
    world.put(a_submission())
    request_node(a_node_service(world))
    reconcile(world, passes=4)
    assert world.nodes.get(NODE.node_id).status is NodeStatus.READY
    for percent in (10, 20):
        progress.record(MODEL, Progress(percent), node=world.nodes.get(NODE.node_id))
    return world


def test_model_whose_last_report_was_lost_is_retrieved(training_model):
    """The resync completes the model, and its file is stored in the bucket."""
    training_model.server.checkpoints[MODEL] = 11
    training_model.clock.tick(SILENT_AFTER + 1)
    reconcile(training_model, passes=2)
    model = training_model.models.get(MODEL)

    assert (model.percent_complete, model.is_active) == (100, False)
    assert training_model.bucket.files == {MODEL: b"trained"}
    assert {(login.user, login.password) for login in training_model.server.credentials} == {
        (NODE.node_id, training_model.secrets.passwords[NODE.node_id, 1])
    }


def test_lost_progress_is_derived_from_the_newest_checkpoint(training_model, logs):
    """The resync corrects the cycle, the percentage and the time of the model's last progress."""
    training_model.server.checkpoints[MODEL] = 6
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).run_pass()
    model = training_model.models.get(MODEL)

    assert (model.percent_complete, model.totals.cycle, model.is_active) == (50, 5, True)
    assert model.progress_at == training_model.clock.now
    assert "model.resynced" in [entry["event"] for entry in logs]


def test_model_of_many_cycles_is_completed_if_its_node_has_said_how_many(training_model, progress):
    """A node of this repository does. Its messages may not get through, and it sends them until they do."""
    node = training_model.nodes.get(NODE.node_id)
    progress.record(MODEL, Progress(20, 100, cycles=499), node=node)
    training_model.server.checkpoints[MODEL] = 500
    training_model.clock.tick(SILENT_AFTER + 1)
    reconcile(training_model, passes=2)

    assert training_model.models.get(MODEL).percent_complete == 100
    assert training_model.bucket.files == {MODEL: b"trained"}


def test_slow_model_is_left_unchanged(training_model):
    """A silent model without a new checkpoint keeps its progress and is queried once an hour."""
    before = training_model.models.get(MODEL)
    training_model.clock.tick(SILENT_AFTER + 1)
    reconciler = a_reconciler(training_model)
    for _ in range(10):
        reconciler.run_pass()
        training_model.clock.tick(SILENT_AFTER / 5)

    assert training_model.models.get(MODEL) == before
    assert training_model.server.asked_for == [f"{MODEL} beyond 3"] * 2


def test_model_with_recent_progress_is_not_queried(training_model):
    """The node is queried only for models that it has not reported for `silent_after` seconds."""
    reconcile(training_model, passes=10)

    assert training_model.server.asked_for == []


def test_failed_resync_changes_nothing(training_model, logs, monkeypatch):
    """A node that does not answer is logged, and the pass continues."""

    def silent(*_: object, **__: object) -> int:
        raise NodeUnreachable("The node did not return its newest checkpoint.")

    monkeypatch.setattr(training_model.server, "newest_checkpoint", silent)
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).run_pass()

    assert training_model.models.get(MODEL).percent_complete == 20
    assert "model.not_resynced" in [entry["event"] for entry in logs]


def test_late_report_corrects_the_percentage_after_a_resync(training_model, progress):
    """A resync without a history closes the cycle and keeps the percentage."""
    training_model.put(replace(training_model.models.get(MODEL), history=()))
    training_model.server.checkpoints[MODEL] = 11
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).run_pass()
    resynced = training_model.models.get(MODEL)
    progress.record(MODEL, Progress(100, 10), node=training_model.nodes.get(NODE.node_id))

    assert (resynced.percent_complete, resynced.totals.cycle) == (20, 10)
    assert training_model.models.get(MODEL).percent_complete == 100
