"""Brings every node towards its desired state, in passes, and within a second after a request.

The reconciler keeps no state that must survive: all state is in the tables and in CloudFormation. It may be
killed at any point, and any number of reconcilers may run.
"""

import random
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from orchestration.control.collect import Resync, Retrieval
from orchestration.control.lifecycle import Lifecycle
from orchestration.control.orphans import SupersededStacks
from orchestration.domain.decision import is_at_rest
from orchestration.domain.demand import IdleTimeout, Waker
from orchestration.domain.errors import OrchestrationError, Overtaken
from orchestration.domain.node import WITH_STACK, ListedStack, Node, NodeStack, NodeStatus, StackPhase
from orchestration.domain.ports import Clock, Models, Nodes, NodeStacks
from orchestration.domain.schedule import Schedule

log = structlog.get_logger(__name__)

THREADS = 8
"""Nodes that are attended to at the same time. A launch makes some seconds of calls to AWS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Seconds between two passes, two checks of a steady node, and two reads of marked nodes."""

    passes: float
    steady: float
    attention: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciler:
    """Reconciles nodes."""

    nodes: Nodes
    models: Models
    stacks: NodeStacks
    lifecycle: Lifecycle
    resync: Resync
    retrieval: Retrieval
    idle_timeout: IdleTimeout
    superseded: SupersededStacks
    waker: Waker
    clock: Clock
    intervals: Intervals
    schedule: Schedule = field(default_factory=Schedule)
    """When each steady node is checked again."""

    def run(self, wait: Callable[[float], bool]) -> None:
        """Make passes, and attend to requests in another thread, until `wait(seconds)` returns True."""
        requests = Thread(target=self._run_attention, args=(wait,), name="attention")
        requests.start()
        while not wait(_jittered(self.intervals.passes)):
            self.run_pass()
        requests.join()

    def _run_attention(self, wait: Callable[[float], bool]) -> None:
        steps: dict[str, Future[None]] = {}

        def start(node_id: str) -> None:
            if node_id not in steps:  # else its step waits for a thread, and its mark is still there
                steps[node_id] = pool.submit(self._attend, node_id)

        with ThreadPoolExecutor(THREADS, thread_name_prefix="attention") as pool:
            while not wait(self.intervals.attention):
                self.attend(start)
                steps = {node_id: step for node_id, step in steps.items() if not step.done()}
            # A step that has not started has not removed its mark: another reconciler takes it.
            pool.shutdown(wait=False, cancel_futures=True)

    def attend(self, start: Callable[[str], None] | None = None) -> None:
        """Take a step for every node that a request has marked, or hand its id to `start`.

        The mark only makes the step faster: a step that fails after the mark was removed is taken by the
        next pass.
        """
        with _failures_logged("attention"):
            for node_id in self.nodes.needing_attention():
                (start or self._attend)(node_id)

    def _attend(self, node_id: str) -> None:
        with _failures_logged(node_id):
            self.nodes.take_attention(node_id)
            self._reconcile_logged(node_id)

    def run_pass(self) -> None:
        """Reconcile every node that is due. A failure at one node, or of the pass, is logged."""
        with _failures_logged("pass"):
            self._pass()

    def _pass(self) -> None:
        due = self.models.datasets_due()
        nodes = list(self.nodes.all())
        unlisted = {
            (node.node_id, node.generation): node
            for node in nodes
            if not is_at_rest(node, self.lifecycle.rules.budget)
        }
        for listed in self.stacks.all():  # one paged list serves the whole pass
            node = unlisted.pop((listed.node_id, listed.generation), None)
            if node is None:
                with _failures_logged(listed.node_id):
                    self.superseded.remove(listed)
            elif self._is_time_for(node, listed.stack, due):
                self._reconcile_logged(node.node_id, listed)
        for node in unlisted.values():  # the list is eventually consistent: describe these one by one
            self._reconcile_logged(node.node_id)
        for node in nodes:
            if node.dataset_id in due and self.waker.may_wake(node):
                awaited = [m for m in self.models.to_retrieve(node.dataset_id) if m.awaits_retrieval]
                self.waker.wake(node, awaited)
        self.superseded.remove_secrets()

    def _is_time_for(self, node: Node, stack: NodeStack, due: Collection[str]) -> bool:
        is_steady = node.status is NodeStatus.READY and node.should_run
        if not is_steady or stack.phase is not StackPhase.USABLE or node.dataset_id in due:
            return True
        return self.idle_timeout.has_expired(node) or self.schedule.is_due(node.node_id, self.clock())

    def _reconcile_logged(self, node_id: str, listed: ListedStack | None = None) -> None:
        self.schedule.remove(node_id)  # if this step fails, the next pass takes it
        with _failures_logged(node_id):
            self._reconcile_now(node_id, listed)
            self.schedule.set(node_id, self.clock() + _jittered(self.intervals.steady))

    @retry(retry=retry_if_exception_type(Overtaken), stop=stop_after_attempt(3), reraise=True)
    def _reconcile_now(self, node_id: str, listed: ListedStack | None) -> None:
        """Read the record and reconcile; once more if another process has changed the record meanwhile."""
        node = self.nodes.get(node_id)
        if node is None:
            return
        # The list may be minutes old: by now, the generation may have ended or another stack be recorded.
        is_current = node.status in WITH_STACK and node.stack_id in (None, listed and listed.stack.stack_id)
        if listed is not None and listed.generation == node.generation and is_current:
            self.reconcile(node, listed.stack)
        else:
            self.reconcile(node)

    def reconcile(self, node: Node, stack: NodeStack | None = None) -> None:
        """Take one step for a node.

        Trained models are retrieved before the step may delete its stack. If a retrieval fails, the node is
        kept, until the model no longer awaits it. Raises Overtaken, QuotaExceeded, Upstream.
        """
        if not node.should_run and node.status is NodeStatus.READY and node.address:
            self.retrieval.retrieve_due(node, node.address)
            if self.retrieval.is_awaited(node, node.address):
                return
        node = self.lifecycle.advance(node, stack)
        if node.status is NodeStatus.READY and node.address:
            self.resync.resync_silent(node, node.address)
            self.retrieval.retrieve_due(node, node.address)
        if node.should_run:
            self.idle_timeout.check(node)


@contextmanager
def _failures_logged(what: str) -> Iterator[None]:
    """Log an error at one node, or in one pass, so that the next one is not affected."""
    try:
        yield
    except Overtaken as error:
        log.debug("reconcile.overtaken", what=what, error=str(error))
    except OrchestrationError as error:
        log.warning("reconcile.failed", what=what, error=str(error))
    except Exception:
        # If the process ended here, it would end here again after its restart.
        log.exception("reconcile.failed", what=what)


def _jittered(seconds: float) -> float:
    """Return the seconds plus or minus a quarter, so that several reconcilers don't act in step."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
