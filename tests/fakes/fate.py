"""What befalls a stack on the fake CloudFormation: decided by the test, carried out as time goes by."""

from dataclasses import dataclass, field
from enum import StrEnum

BREAKER = (
    'Resource handler returned message: "Error occurred during operation '
    "'ECS Deployment Circuit Breaker was triggered'.\" "
    "(RequestToken: 5e1e7b1c, HandlerErrorCode: GeneralServiceException)"
)
"""What CloudFormation says of a service whose tasks don't start."""
INVALID = 'Resource handler returned message: "Model validation failed" (HandlerErrorCode: InvalidRequest)'


class Creation(StrEnum):
    """How the creation of a stack ends."""

    COMPLETE = "complete"
    FAILS = "fails"  # and is rolled back
    ROLLBACK_FAILS = "rollback fails"
    NEVER_STABLE = "never stable"  # tasks start and stop until the circuit breaker, if any, gives up
    HANGS = "hangs"


class Deletion(StrEnum):
    """How the deletions of a stack end."""

    WELL = "well"
    FAILS = "fails"  # `failing_deletions` times, then goes well
    NEEDS_RETAIN = "needs retain"  # goes well only without the resource that is stuck, or by force
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
    """Why ECS says that a task stopped; no `exit_code` where its container never ran."""

    reason: str = INVALID
    code: str = "EssentialContainerExited"
    container: str = ""
    exit_code: int | None = 1


@dataclass(frozen=True, slots=True)
class Fate:
    """By default all goes well. Resources are named without CloudFormation's hash; times are in seconds.

    How the node serves, once it is up: `answers` or never does; is `silent` from one second of its life until
    another; `dies_after` so many, for good.
    """

    creation: Creation = Creation.COMPLETE
    fails_at: str = "Service"
    reason: str = INVALID
    breaker: float | None = 600.0
    """How long the circuit breaker lets a service that never gets stable try; None for ever."""
    slowness: float = 1.0
    """By which all durations are multiplied."""
    deletion: Deletion = Deletion.WELL
    failing_deletions: int = 1
    stuck: str = "Service"
    """The resource that a deletion, a rollback or an update fails at."""
    protected: bool = False
    """Whether somebody has switched termination protection on."""
    answers: bool = True
    silent: tuple[float, float] | None = None
    dies_after: float | None = None
    stop: Stop = field(default_factory=Stop)
    """What ECS says of its tasks that stop by themselves."""


ALL_WELL = Fate()


def all_well(stack_name: str) -> Fate:
    """Let no stack come to harm."""
    return ALL_WELL


@dataclass(frozen=True, slots=True)
class Durations:
    """How long operations take, in seconds; the defaults are about AWS's own for the stack of a node."""

    create: float = 150.0
    delete: float = 60.0
    rollback: float = 60.0
    update: float = 120.0
    cleanup: float = 20.0
    import_: float = 30.0
    task: float = 40.0
    """From the start of a task that fails until it stops."""
    restart: float = 60.0
    """From then until ECS starts the next one."""
