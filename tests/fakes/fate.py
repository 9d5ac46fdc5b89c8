"""The fate of a stack on the fake CloudFormation: which faults it has. Tests choose it."""

from dataclasses import dataclass, field
from enum import StrEnum

BREAKER = (
    'Resource handler returned message: "Error occurred during operation '
    "'ECS Deployment Circuit Breaker was triggered'.\" "
    "(RequestToken: 5e1e7b1c, HandlerErrorCode: GeneralServiceException)"
)
"""CloudFormation's message about a service whose tasks don't start."""
INVALID = 'Resource handler returned message: "Model validation failed" (HandlerErrorCode: InvalidRequest)'


class Creation(StrEnum):
    """How the creation of a stack ends."""

    COMPLETE = "complete"
    FAILS = "fails"  # then is rolled back
    ROLLBACK_FAILS = "rollback fails"
    NEVER_STABLE = "never stable"  # tasks start and stop until the circuit breaker, if any, stops them
    HANGS = "hangs"


class Deletion(StrEnum):
    """How the deletions of a stack end."""

    WELL = "well"
    FAILS = "fails"  # `failing_deletions` times, then succeeds
    NEEDS_RETAIN = "needs retain"  # succeeds only without the stuck resource, or by force
    NEEDS_FORCE = "needs force"
    NEVER = "never"
    HANGS = "hangs"


class Update(StrEnum):
    """How an operator's update ends."""

    COMPLETE = "complete"
    FAILS = "fails"  # without a rollback
    ROLLED_BACK = "rolled back"
    ROLLBACK_FAILS = "rollback fails"
    HANGS = "hangs"


class Import(StrEnum):
    """How an operator's import ends."""

    COMPLETE = "complete"
    ROLLED_BACK = "rolled back"
    ROLLBACK_FAILS = "rollback fails"
    HANGS = "hangs"


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a task stopped, as ECS reports it; `exit_code` is None if its container never ran."""

    reason: str = INVALID
    code: str = "EssentialContainerExited"
    container: str = ""
    exit_code: int | None = 1


@dataclass(frozen=True, slots=True)
class Fate:
    """The faults of a stack; none by default. Resources have no CDK hash; times are in seconds.

    The running node `answers` or never does. It is `silent` between two ages in seconds, and stops for good
    at the age `dies_after`.
    """

    creation: Creation = Creation.COMPLETE
    fails_at: str = "Service"
    reason: str = INVALID
    breaker: float | None = 600.0
    """Seconds until the circuit breaker stops a service that never becomes stable; None for never."""
    slowness: float = 1.0
    """Factor of all durations."""
    deletion: Deletion = Deletion.WELL
    failing_deletions: int = 1
    stuck: str = "Service"
    """The resource at which a deletion, a rollback or an update fails."""
    protected: bool = False
    """Whether an operator has switched termination protection on."""
    answers: bool = True
    silent: tuple[float, float] | None = None
    dies_after: float | None = None
    stop: Stop = field(default_factory=Stop)
    """How its tasks stop by themselves, as ECS reports it."""


ALL_WELL = Fate()


def all_well(stack_name: str) -> Fate:
    """Return a fate without faults for every stack."""
    return ALL_WELL


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations of operations in seconds; the defaults are about those of a node's stack on AWS."""

    create: float = 150.0
    delete: float = 60.0
    rollback: float = 60.0
    update: float = 120.0
    cleanup: float = 20.0
    import_: float = 30.0
    task: float = 40.0
    """From the start of a task that fails until it stops."""
    restart: float = 60.0
    """From the stop until ECS starts the next task."""
