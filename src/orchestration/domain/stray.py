"""Stacks that carry our tag and belong to no living generation of a node: what to do about them."""

from enum import StrEnum

from orchestration.domain.decision import LAUNCH_SETTLES, Action
from orchestration.domain.node import WITH_STACK, ListedStack, Node, StackPhase


class Standing(StrEnum):
    """How a stack stands to the records."""

    KNOWN = "known"  # of a node's present generation
    YOUNG = "young"  # so new that its record may be about to know it
    LEFT_OVER = "left over"  # of a generation that is over
    UNKNOWN = "unknown"  # of a node, or a generation, that no record has ever known


def standing_of(listed: ListedStack, node: Node | None, now: float) -> Standing:
    """Compare a stack with the record of its node, read consistently after the stack was seen."""
    if now - listed.created_at <= LAUNCH_SETTLES:
        return Standing.YOUNG
    if node is None or listed.generation > node.generation:
        return Standing.UNKNOWN
    if listed.generation < node.generation:
        return Standing.LEFT_OVER
    return Standing.KNOWN if node.status in WITH_STACK else Standing.LEFT_OVER


def removal_of(phase: StackPhase) -> Action:
    """Say how a stack that is left over goes. Nobody waits for it, so nothing is escalated but force."""
    match phase:
        case StackPhase.UNDELETABLE:
            return Action.DELETE_BY_FORCE
        case StackPhase.UPDATING:
            return Action.CANCEL_UPDATE
        case (
            StackPhase.DELETING
            | StackPhase.FAILING
            | StackPhase.SETTLING
            | StackPhase.IMPORTING
            | StackPhase.UNKNOWN
            | StackPhase.ABSENT
            | StackPhase.UNSEEN
        ):
            return Action.WAIT
        case _:
            return Action.DELETE
