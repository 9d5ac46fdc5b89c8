import botocore.session
import pytest

from orchestration.domain.node import StackPhase
from orchestration.provisioning.cfn_status import PHASES, is_failure, is_stable, phase_of, starts_operation


def test_every_status_of_botocore_has_a_phase():
    """A status that CloudFormation adds must be added to the table."""
    model = botocore.session.get_session().get_service_model("cloudformation")

    assert set(model.shape_for("StackStatus").enum) == PHASES.keys()


def test_unknown_status_is_not_stable():
    """No stack is created or deleted because of an unknown status."""
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
            StackPhase.FINISHING,
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
def test_phase_of_each_status(phase, statuses):
    """The complete table."""
    assert {status for status, meant in PHASES.items() if meant is phase} == statuses


def test_all_phases_but_three_have_a_status():
    """UNSEEN is a stack that isn't visible, FOREIGN a stranger's, UNKNOWN has a status not in the table."""
    without = {StackPhase.UNSEEN, StackPhase.FOREIGN, StackPhase.UNKNOWN}

    assert set(StackPhase) - set(PHASES.values()) == without


def test_only_statuses_in_progress_are_not_stable():
    """All other phases change only with another operation."""
    moving = {status for status, phase in PHASES.items() if not is_stable(phase)}

    assert moving == {status for status in PHASES if status.endswith("_IN_PROGRESS")} - {"REVIEW_IN_PROGRESS"}


def test_rollback_does_not_start_an_operation():
    """It belongs to the operation that failed."""
    first = {status for status in PHASES if starts_operation(status)}

    assert first == {f"{operation}_IN_PROGRESS" for operation in ("CREATE", "DELETE", "IMPORT", "UPDATE")}
    assert is_failure("CREATE_FAILED")
    assert not is_failure("CREATE_COMPLETE")
