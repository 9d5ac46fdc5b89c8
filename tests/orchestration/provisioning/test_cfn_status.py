import botocore.session
import pytest

from orchestration.domain.node import StackPhase
from orchestration.provisioning.cfn_status import PHASES, is_failure, is_settled, phase_of, starts_operation


def test_every_status_that_botocore_knows_has_a_phase():
    """A status that CloudFormation adds must be thought about, not met by surprise."""
    model = botocore.session.get_session().get_service_model("cloudformation")

    assert set(model.shape_for("StackStatus").enum) == PHASES.keys()


def test_an_unknown_word_is_waited_for():
    """Nothing is created or deleted on a word we don't understand."""
    assert phase_of("TELEPORT_IN_PROGRESS") is StackPhase.UNKNOWN
    assert not is_settled(StackPhase.UNKNOWN)


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("CREATE_IN_PROGRESS", StackPhase.CREATING),
        ("CREATE_COMPLETE", StackPhase.USABLE),
        ("ROLLBACK_IN_PROGRESS", StackPhase.FAILING),
        ("ROLLBACK_COMPLETE", StackPhase.BROKEN),
        ("REVIEW_IN_PROGRESS", StackPhase.BROKEN),
        ("DELETE_IN_PROGRESS", StackPhase.DELETING),
        ("DELETE_COMPLETE", StackPhase.ABSENT),
        ("DELETE_FAILED", StackPhase.UNDELETABLE),
        ("UPDATE_ROLLBACK_COMPLETE", StackPhase.USABLE),
        ("IMPORT_IN_PROGRESS", StackPhase.UNKNOWN),
    ],
)
def test_a_status_has_the_phase_of_the_table(status, phase):
    """The table of the design, one row of each kind."""
    assert phase_of(status) is phase


def test_a_stack_that_is_being_updated_goes_on_serving():
    """Whatever comes of the update, its resources are there meanwhile; it can't be deleted yet."""
    busy = {status for status, phase in PHASES.items() if phase is StackPhase.UPDATING}

    assert busy == {
        "UPDATE_IN_PROGRESS",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    }


def test_only_what_is_in_progress_is_not_settled():
    """Waiting ends exactly where CloudFormation does nothing more by itself."""
    moving = {status for status, phase in PHASES.items() if not is_settled(phase)}

    assert moving == {word for word in PHASES if word.endswith("_IN_PROGRESS")} - {"REVIEW_IN_PROGRESS"}


def test_a_rollback_belongs_to_the_operation_that_failed():
    """Events are read back to what somebody asked for, not to what CloudFormation did about it."""
    assert starts_operation("CREATE_IN_PROGRESS")
    assert not starts_operation("ROLLBACK_IN_PROGRESS")
    assert is_failure("CREATE_FAILED")
    assert not is_failure("CREATE_COMPLETE")
