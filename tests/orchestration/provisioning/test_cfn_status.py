import botocore.session
import pytest

from orchestration.domain.node import StackPhase
from orchestration.provisioning.cfn_status import PHASES, is_failure, is_stable, phase_of, starts_operation


def test_every_status_that_botocore_knows_has_a_phase():
    """A status that CloudFormation adds must be thought about, not met by surprise."""
    model = botocore.session.get_session().get_service_model("cloudformation")

    assert set(model.shape_for("StackStatus").enum) == PHASES.keys()


def test_an_unknown_word_is_waited_for():
    """Nothing is created or deleted on a word we don't understand."""
    assert phase_of("TELEPORT_IN_PROGRESS") is StackPhase.UNKNOWN
    assert not is_stable(StackPhase.UNKNOWN)


@pytest.mark.parametrize(
    ("phase", "statuses"),
    [
        (StackPhase.ABSENT, {"DELETE_COMPLETE"}),
        (StackPhase.CREATING, {"CREATE_IN_PROGRESS"}),
        (StackPhase.USABLE, {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}),
        (StackPhase.FAILING, {"ROLLBACK_IN_PROGRESS"}),
        (StackPhase.BROKEN, {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}),
        (StackPhase.DELETING, {"DELETE_IN_PROGRESS"}),
        (StackPhase.UNDELETABLE, {"DELETE_FAILED"}),
        (StackPhase.EMPTY, {"REVIEW_IN_PROGRESS"}),
        (StackPhase.UPDATING, {"UPDATE_IN_PROGRESS"}),
        (
            StackPhase.SETTLING,
            {
                "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
                "UPDATE_ROLLBACK_IN_PROGRESS",
                "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
            },
        ),
        (StackPhase.HALF_UPDATED, {"UPDATE_FAILED"}),
        (StackPhase.STUCK, {"UPDATE_ROLLBACK_FAILED"}),
        (StackPhase.IMPORTING, {"IMPORT_IN_PROGRESS", "IMPORT_ROLLBACK_IN_PROGRESS"}),
        (StackPhase.IMPORTED, {"IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}),
        (StackPhase.LOST, {"IMPORT_ROLLBACK_FAILED"}),
    ],
)
def test_a_phase_stands_for_the_statuses_of_the_table(phase, statuses):
    """The table of the design, each of its rows."""
    assert {status for status, meant in PHASES.items() if meant is phase} == statuses


def test_every_phase_but_two_is_a_status_of_cloudformation():
    """One says that it shows nothing, the other that it says something new."""
    assert set(StackPhase) - set(PHASES.values()) == {StackPhase.UNSEEN, StackPhase.UNKNOWN}


def test_only_what_is_in_progress_is_not_settled():
    """Waiting ends exactly where CloudFormation does nothing more by itself."""
    moving = {status for status, phase in PHASES.items() if not is_stable(phase)}

    assert moving == {word for word in PHASES if word.endswith("_IN_PROGRESS")} - {"REVIEW_IN_PROGRESS"}


def test_a_rollback_belongs_to_the_operation_that_failed():
    """Events are read back to what somebody asked for, not to what CloudFormation did about it."""
    first = {status for status in PHASES if starts_operation(status)}

    assert first == {f"{asked}_IN_PROGRESS" for asked in ("CREATE", "DELETE", "IMPORT", "UPDATE")}
    assert is_failure("CREATE_FAILED")
    assert not is_failure("CREATE_COMPLETE")
