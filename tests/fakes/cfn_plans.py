"""The steps of each of CloudFormation's operations, if no other operation interferes."""

from collections.abc import Collection, Iterator, Sequence

from tests.fakes.cfn_stack import Stack, Step
from tests.fakes.fate import BREAKER, Creation, Deletion, Durations, Import, Update

BY_USER = "User Initiated"
CANCELLED = "Resource creation cancelled"
FAILED_TO = "The following resource(s) failed to {}: [{}]. "
STUCK = 'Resource handler returned message: "The resource is in use" (HandlerErrorCode: ResourceConflict)'


def creation(stack: Stack, now: float, durations: Durations) -> Iterator[Step]:
    """Create all resources, stage by stage."""
    yield Step(now, "CREATE_IN_PROGRESS", reason=BY_USER)
    stages = stack.template.stages if stack.template else ()
    share = durations.create * stack.fate.slowness / max(len(stages), 1)
    culprit = ""
    if stack.fate.creation is not Creation.COMPLETE and stages:
        culprit = _named(stack, stack.fate.fails_at) or stages[-1][-1]
    begins = now
    for number, stage in enumerate(stages):
        yield from (Step(begins, "CREATE_IN_PROGRESS", id_, exists=True) for id_ in stage)
        if culprit in stage:
            before = [id_ for earlier in stages[:number] for id_ in earlier]
            yield from _creation_fails(stack, culprit, [*before, *stage], begins, share, durations)
            return
        begins += share
        yield from (Step(begins, "CREATE_COMPLETE", id_) for id_ in stage)
    yield Step(begins, "CREATE_COMPLETE")


def _creation_fails(
    stack: Stack, culprit: str, begun: Sequence[str], begins: float, share: float, durations: Durations
) -> Iterator[Step]:
    fate = stack.fate
    is_unstable = fate.creation is Creation.NEVER_STABLE
    if fate.creation is Creation.HANGS or (is_unstable and fate.breaker is None):
        return
    at = begins + ((fate.breaker or 0.0) if is_unstable else share / 2)
    stage = next(stage for stage in stack.template.stages if culprit in stage) if stack.template else ()
    reason = BREAKER if is_unstable else fate.reason
    yield Step(at, "CREATE_FAILED", culprit, reason, exists=is_unstable)
    yield from (Step(at, "CREATE_FAILED", id_, CANCELLED) for id_ in stage if id_ != culprit)
    failed = FAILED_TO.format("create", ", ".join([culprit, *(id_ for id_ in stage if id_ != culprit)]))
    made = [id_ for id_ in begun if id_ != culprit or is_unstable]
    match stack.on_failure:
        case "DO_NOTHING":
            yield Step(at, "CREATE_FAILED", reason=failed)
        case "DELETE":
            yield Step(at, "DELETE_IN_PROGRESS", reason=f"{failed}Delete requested by user.")
            yield from _removal(stack, made, at, durations.delete)
            yield Step(at + durations.delete * fate.slowness, "DELETE_COMPLETE")
        case _:
            yield Step(at, "ROLLBACK_IN_PROGRESS", reason=f"{failed}Rollback requested by user.")
            yield from rollback(stack, made, at, durations)


def rollback(stack: Stack, made: Sequence[str], now: float, durations: Durations) -> Iterator[Step]:
    """Delete what a failed creation has created."""
    ends = now + durations.rollback * stack.fate.slowness
    stuck = ""
    if stack.fate.creation is Creation.ROLLBACK_FAILS and made:
        named = _named(stack, stack.fate.stuck)
        stuck = named if named in made else made[-1]
    yield from _removal(stack, made, now, durations.rollback, stuck)
    if stuck:
        yield Step(ends, "ROLLBACK_FAILED", reason=FAILED_TO.format("delete", stuck))
    else:
        yield Step(ends, "ROLLBACK_COMPLETE")


def deletion(
    stack: Stack, now: float, durations: Durations, retain: Collection[str] = (), *, force: bool = False
) -> Iterator[Step]:
    """Delete all resources except the retained ones. By force, the stuck ones are skipped."""
    yield Step(now, "DELETE_IN_PROGRESS", reason=BY_USER)
    ends = now + durations.delete * stack.fate.slowness
    made = [id_ for id_ in stack.made() if id_ not in retain]
    if stack.fate.deletion is Deletion.HANGS:
        return
    stuck = _stuck(stack, made) if _sticks(stack, retain) else ""
    yield from (Step(now, "DELETE_SKIPPED", id_) for id_ in retain)
    if stuck and force and stack.fate.deletion is not Deletion.NEVER:
        yield Step(now, "DELETE_FAILED", stuck, STUCK)
        yield from _removal(stack, [id_ for id_ in made if id_ != stuck], now, durations.delete)
        yield Step(ends, "DELETE_COMPLETE")
    elif stuck:
        yield from _removal(stack, made, now, durations.delete, stuck)
        yield Step(ends, "DELETE_FAILED", reason=FAILED_TO.format("delete", stuck))
    else:
        yield from _removal(stack, made, now, durations.delete)
        yield Step(ends, "DELETE_COMPLETE")


def update(stack: Stack, now: float, durations: Durations, end: Update) -> Iterator[Step]:
    """Change a resource."""
    yield Step(now, "UPDATE_IN_PROGRESS", reason=BY_USER)
    changed = _stuck(stack, stack.made())
    if changed:
        yield Step(now, "UPDATE_IN_PROGRESS", changed)
    at = now + durations.update * stack.fate.slowness
    if end is Update.HANGS:
        return
    if end is Update.COMPLETE:
        if changed:
            yield Step(at, "UPDATE_COMPLETE", changed)
        yield Step(at, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        yield Step(at + durations.cleanup, "UPDATE_COMPLETE")
        return
    if changed:
        yield Step(at, "UPDATE_FAILED", changed, stack.fate.reason)
    failed = FAILED_TO.format("update", changed)
    if end is Update.FAILS:
        yield Step(at, "UPDATE_FAILED", reason=failed)
    else:
        yield from update_rollback(stack, at, durations, failed, fails=end is Update.ROLLBACK_FAILS)


def update_rollback(
    stack: Stack, now: float, durations: Durations, reason: str, *, fails: bool
) -> Iterator[Step]:
    """Roll an update back."""
    yield Step(now, "UPDATE_ROLLBACK_IN_PROGRESS", reason=reason)
    at = now + durations.rollback * stack.fate.slowness
    changed = _stuck(stack, stack.made())
    if fails:
        if changed:
            yield Step(at, "UPDATE_FAILED", changed, STUCK)
        yield Step(at, "UPDATE_ROLLBACK_FAILED", reason=FAILED_TO.format("update", changed))
        return
    if changed:
        yield Step(at, "UPDATE_COMPLETE", changed)
    yield Step(at, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
    yield Step(at + durations.cleanup, "UPDATE_ROLLBACK_COMPLETE")


def import_(stack: Stack, now: float, durations: Durations, end: Import) -> Iterator[Step]:
    """Import resources."""
    yield Step(now, "IMPORT_IN_PROGRESS", reason=BY_USER)
    at = now + durations.import_
    match end:
        case Import.COMPLETE:
            yield Step(at, "IMPORT_COMPLETE")
        case Import.ROLLED_BACK | Import.ROLLBACK_FAILS:
            yield Step(at, "IMPORT_ROLLBACK_IN_PROGRESS", reason=FAILED_TO.format("import", ""))
            outcome = "COMPLETE" if end is Import.ROLLED_BACK else "FAILED"
            yield Step(at + durations.rollback, f"IMPORT_ROLLBACK_{outcome}")


def _removal(stack: Stack, made: Sequence[str], now: float, took: float, stuck: str = "") -> Iterator[Step]:
    """Delete resources in reverse order; those that the stuck one depends on stay."""
    in_order = reversed(stack.template.stages) if stack.template else ()
    stages = [existing for stage in in_order if (existing := [id_ for id_ in stage if id_ in made])]
    share = took * stack.fate.slowness / max(len(stages), 1)
    for stage in stages:
        yield from (Step(now, "DELETE_IN_PROGRESS", id_) for id_ in stage)
        now += share
        for id_ in stage:
            if id_ == stuck:
                yield Step(now, "DELETE_FAILED", id_, STUCK)
            else:
                yield Step(now, "DELETE_COMPLETE", id_, exists=False)
        if stuck in stage:
            return


def _sticks(stack: Stack, retain: Collection[str]) -> bool:
    match stack.fate.deletion:
        case Deletion.FAILS:
            return stack.failed_deletions < stack.fate.failing_deletions
        case Deletion.NEEDS_RETAIN:
            return _stuck(stack, stack.made()) not in retain
        case Deletion.NEEDS_FORCE | Deletion.NEVER:
            return True
        case _:
            return False


def _stuck(stack: Stack, made: Sequence[str]) -> str:
    """Return the resource that fails: the one that failed before, that of the fate, or the last."""
    named = _named(stack, stack.fate.stuck)
    before = [id_ for id_ in made if stack.resources[id_].status == "DELETE_FAILED"]
    return next(iter([*before, *(id_ for id_ in made if id_ == named), *made[-1:]]), "")


def _named(stack: Stack, name: str) -> str:
    return stack.template.named(name) if stack.template else ""
