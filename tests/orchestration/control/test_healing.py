"""The original node says each word once; what got lost is read from its checkpoints."""

from dataclasses import replace

import pytest

from orchestration.domain.cycle import Progress
from orchestration.domain.errors import NodeUnreachable
from orchestration.domain.node import NodeStatus, node_id_of
from tests.builders import DATASET, MODEL, SCIENTIST, a_submission
from tests.processes import SILENT_AFTER, a_node_service, a_reconciler, a_request, settle

NODE = node_id_of(DATASET)


@pytest.fixture
def training_model(world, training):
    """A model of ten cycles on a node of the original kind, which has said two words."""
    world.put(a_submission())
    a_node_service(world).request(a_request(), caller=SCIENTIST)
    settle(world, sweeps=4)
    assert world.nodes.get(NODE).status is NodeStatus.READY
    for percent in (10, 20):
        training.record_progress(MODEL, Progress(percent), node=world.nodes.get(NODE))
    return world


def test_a_model_whose_last_word_got_lost_comes_home(training_model):
    """It would stand at 20 per cent for ever."""
    training_model.server.checkpoints[MODEL] = 11
    training_model.clock.tick(SILENT_AFTER + 1)
    settle(training_model, sweeps=2)
    model = training_model.models.get(MODEL)

    assert (model.percent_complete, model.is_active) == (100, False)
    assert training_model.bucket.files == {MODEL: b"trained"}
    assert {(login.user, login.password) for login in training_model.server.credentials} == {
        (NODE, training_model.secrets.passwords[NODE, 1])
    }


def test_a_word_that_got_lost_in_between_is_made_up_for(training_model, logs):
    """The history shows a cycle, the owner sees progress, and the model is fresh again."""
    training_model.server.checkpoints[MODEL] = 6
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).sweep()
    model = training_model.models.get(MODEL)

    assert (model.percent_complete, model.tally.cycle, model.is_active) == (50, 5, True)
    assert model.progress_at == training_model.clock.now
    assert "model.healed" in [entry["event"] for entry in logs]


def test_a_model_that_just_takes_its_time_is_left_as_it_is(training_model):
    """Nothing is made up; it is asked for once an hour, not at every look."""
    before = training_model.models.get(MODEL)
    training_model.clock.tick(SILENT_AFTER + 1)
    reconciler = a_reconciler(training_model)
    for _ in range(10):
        reconciler.sweep()
        training_model.clock.tick(SILENT_AFTER / 5)

    assert training_model.models.get(MODEL) == before
    assert training_model.server.asked_for == [f"{MODEL} beyond 3"] * 2


def test_a_model_that_speaks_is_not_asked_for(training_model):
    """Its words are enough."""
    settle(training_model, sweeps=10)

    assert training_model.server.asked_for == []


def test_a_node_that_does_not_say_is_asked_again_later(training_model, logs, monkeypatch):
    """Silence of a node is no word; the rest of the pass goes on."""

    def silent(*_: object, **__: object) -> int:
        raise NodeUnreachable("The node did not say how far the model is.")

    monkeypatch.setattr(training_model.server, "newest_checkpoint", silent)
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).sweep()

    assert training_model.models.get(MODEL).percent_complete == 20
    assert "model.not_healed" in [entry["event"] for entry in logs]


def test_a_word_that_comes_late_after_all_sets_the_percentage_right(training_model, training):
    """Found closed without it, the cycle could not say how far the model is."""
    training_model.put(replace(training_model.models.get(MODEL), history=()))
    training_model.server.checkpoints[MODEL] = 11
    training_model.clock.tick(SILENT_AFTER + 1)
    a_reconciler(training_model).sweep()
    healed = training_model.models.get(MODEL)
    training.record_progress(MODEL, Progress(100, 10), node=training_model.nodes.get(NODE))

    assert (healed.percent_complete, healed.tally.cycle) == (20, 10)
    assert training_model.models.get(MODEL).percent_complete == 100
