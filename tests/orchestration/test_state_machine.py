"""Users, devices, failures and the clock, in any order that Hypothesis generates, and invariants.

The service's own parts run on the fakes of CloudFormation and DynamoDB. A process may die after any call
to them.
"""

import os
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestration.control.orphans import INTERVAL
from orchestration.domain.cycle import Progress
from orchestration.domain.errors import OrchestrationError
from orchestration.domain.node import Node, NodeStatus, node_id_of
from tests.builders import DEVELOPER, LEGACY_KEY, SCIENTIST, a_submission
from tests.cloud import PREFIX, Cloud, a_cloud
from tests.fakes import Crash, Creation, Deletion, Fate, Update, Wire
from tests.processes import (
    BUDGET,
    DAY,
    DEADLINE,
    IDLE_TIMEOUT,
    a_device_service,
    a_model_service,
    a_node_service,
    a_progress_service,
    a_reconciler,
    request_node,
)

DATASETS = ("heart", "lung", "skin")
PASS, LONG_PASS = 20.0, 300.0
LONGEST_OPERATION = 3600.0
"""Seconds after which the slowest operation of CloudFormation ends here."""

EXAMPLES, STEPS = int(os.environ.get("MACHINE_EXAMPLES", "40")), int(os.environ.get("MACHINE_STEPS", "40"))

SHRINK = "MACHINE_SHRINK" in os.environ
"""Whether a failing example is shrunk, which takes minutes. It is reported in either case."""

datasets = st.sampled_from(DATASETS)
others = st.sampled_from(["reconcile", "retire", "request"])
fates = st.builds(
    Fate,
    creation=st.sampled_from(Creation),
    deletion=st.sampled_from([kind for kind in Deletion if kind not in (Deletion.NEVER, Deletion.HANGS)]),
    answers=st.sampled_from([True, True, True, False]),
    silent=st.sampled_from([None, None, (200.0, 400.0), (200.0, 5000.0)]),
    dies_after=st.sampled_from([None, None, 300.0]),
)


class Marketplace(RuleBasedStateMachine):
    """All events that can happen to three datasets."""

    @initialize(seed=st.integers(0, 2**16))
    def open(self, seed: int) -> None:
        self.world = a_cloud(dataset_ids=DATASETS, seed=seed, validate=False)
        self.world.remove("model_table")  # no model is accepted yet
        self.reconcilers = [a_reconciler(self.world), a_reconciler(self.world)]
        self.submitted = 0
        self.passed_at = 0.0

    # What users do

    @rule(dataset_id=datasets)
    def submit_a_model(self, dataset_id: str) -> None:
        self.request(dataset_id, self.submitted_to(dataset_id))

    def submitted_to(self, dataset_id: str) -> str:
        self.submitted += 1
        name = f"model-{self.submitted}"
        self.world.put(a_submission(model_id=name, dataset_id=dataset_id))
        return name

    @rule(dataset_id=datasets)
    def request_again(self, dataset_id: str) -> None:
        for model in self.world.models.on_dataset(dataset_id):
            self.request(dataset_id, model.model_id)

    def request(self, dataset_id: str, model_id: str, world: Cloud | None = None) -> None:
        with suppress(OrchestrationError):
            request_node(a_node_service(world or self.world), dataset_id=dataset_id, model_id=model_id)

    @rule(dataset_id=datasets)
    def withdraw_a_model(self, dataset_id: str) -> None:
        for model in self.world.models.on_dataset(dataset_id)[:1]:
            a_model_service(self.world).withdraw(model.model_id, caller=SCIENTIST)

    @rule(dataset_id=datasets)
    def retire_a_node(self, dataset_id: str) -> None:
        with suppress(OrchestrationError):
            a_node_service(self.world).retire(dataset_id, caller=DEVELOPER, force=True)

    # What devices and nodes do

    @rule(dataset_id=datasets)
    def call_as_a_device(self, dataset_id: str) -> None:
        calls = dict(self.world.cloudformation.calls)
        work = a_device_service(self.world).work(dataset_id, api_key=LEGACY_KEY)
        node = self.node(dataset_id)

        assert self.world.cloudformation.calls == calls, "a request of a device called CloudFormation"
        assert work.address is None or node.status is NodeStatus.READY

    @rule(dataset_id=datasets, percent=st.sampled_from([10, 100, 100]))
    def close_a_cycle(self, dataset_id: str, percent: int) -> None:
        node = self.node(dataset_id)
        if node is None or not self.serves(node):
            return
        for model in self.world.models.on_dataset(dataset_id)[:1]:
            if model.is_training:
                a_progress_service(self.world).record(model.model_id, Progress(percent), node=node)

    # What goes wrong

    @rule(fate=fates)
    def next_stack_gets_a_fate(self, fate: Fate) -> None:
        self.world.fates.append(fate)

    @rule(share=st.sampled_from([0.0, 0.0, 0.2, 0.9]), lost=st.sampled_from([0.0, 0.0, 0.1]))
    def aws_throttles_and_loses_answers(self, share: float, lost: float) -> None:
        self.world.cloudformation.throttle = share
        self.world.cloudformation.unanswered = lost

    @rule(lag=st.sampled_from([0.0, 0.0, 5.0]))
    def descriptions_lag(self, lag: float) -> None:
        self.world.cloudformation.lag = lag

    @rule(away=st.booleans())
    def bucket_is_available_or_not(self, away: bool) -> None:
        self.world.bucket.away = away

    @rule(silent=st.booleans())
    def nodes_are_reachable_or_not(self, silent: bool) -> None:
        self.world.server.silent = silent

    @rule(dataset_id=datasets)
    def operator_deletes_a_stack(self, dataset_id: str) -> None:
        for stack in self.world.census.of_node(node_id_of(dataset_id))[:1]:
            with suppress(Exception):  # CloudFormation refuses or does not answer
                self.world.cloudformation.delete_stack(StackName=stack.stack_id)

    @rule(dataset_id=datasets, end=st.sampled_from([end for end in Update if end is not Update.HANGS]))
    def operator_updates_a_stack(self, dataset_id: str, end: Update) -> None:
        for stack in self.world.census.of_node(node_id_of(dataset_id))[:1]:
            with suppress(Exception):  # as above
                self.world.operator.update(stack.name, end)

    @rule(dataset_id=datasets, protected=st.booleans())
    def operator_switches_protection(self, dataset_id: str, protected: bool) -> None:
        for stack in self.world.census.of_node(node_id_of(dataset_id)):
            self.world.operator.protect(stack.name, protected=protected)

    # What time and our processes do

    @rule(seconds=st.sampled_from([1.0, PASS, 90.0, IDLE_TIMEOUT, DEADLINE + 1, INTERVAL, DAY, 8 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.world.clock.tick(seconds)

    @rule(which=st.integers(0, 1))
    def reconciler_passes(self, which: int) -> None:
        self.reconcilers[which].run_pass()
        self.record_pass()

    @rule(which=st.integers(0, 1))
    def reconciler_attends_to_requests(self, which: int) -> None:
        self.reconcilers[which].attend()

    @rule(passes=st.integers(2, 15))
    def reconciler_passes_for_a_while(self, passes: int) -> None:
        for _ in range(passes):
            self.reconcilers[0].run_pass()
            self.record_pass()
            self.world.clock.tick(PASS)

    def record_pass(self) -> None:
        """Record the time of a complete pass. A pass may be incomplete while AWS doesn't answer."""
        if not (self.world.cloudformation.throttle or self.world.cloudformation.unanswered):
            self.passed_at = self.world.clock()

    @rule(after=st.integers(1, 60))
    def reconciler_dies(self, after: int) -> None:
        with suppress(Crash):
            reconciler = a_reconciler(self.world.through(Wire(after, _die)))
            reconciler.attend()
            reconciler.run_pass()

    @rule(dataset_id=datasets, after=st.integers(1, 12))
    def web_worker_dies(self, dataset_id: str, after: int) -> None:
        with suppress(Crash):
            self.request(dataset_id, self.submitted_to(dataset_id), self.world.through(Wire(after, _die)))

    @rule(after=st.integers(1, 30), dataset_id=datasets, other=others)
    def reconciler_is_interrupted(self, after: int, dataset_id: str, other: str) -> None:
        reconciler = a_reconciler(self.world.through(Wire(after, lambda: self.meanwhile(dataset_id, other))))
        reconciler.attend()
        reconciler.run_pass()

    @rule(after=st.integers(1, 12), dataset_id=datasets, other=others)
    def request_is_interrupted(self, after: int, dataset_id: str, other: str) -> None:
        name = self.submitted_to(dataset_id)
        self.request(
            dataset_id, name, self.world.through(Wire(after, lambda: self.meanwhile(dataset_id, other)))
        )

    def meanwhile(self, dataset_id: str, event: str) -> None:
        match event:
            case "reconcile":
                self.reconcilers[1].attend()
                self.reconcilers[1].run_pass()
            case "retire":
                self.retire_a_node(dataset_id)
                self.reconcilers[1].run_pass()
            case "request":
                self.request(dataset_id, self.submitted_to(dataset_id))
                self.reconcilers[1].attend()

    # Invariants

    def quarantined(self) -> set[str]:
        """Return the stacks that CloudFormation would not delete, as the audit log names them."""
        actions = (action.partition("node.quarantine: ") for _, action, _ in self.world.told())
        return {stack_id for _, _, stack_id in actions if stack_id}

    def node(self, dataset_id: str) -> Node | None:
        return self.world.nodes.get(node_id_of(dataset_id))

    def serves(self, node: Node) -> bool:
        return node.address is not None and self.world.server.answers(node.address, node.node_id)

    @invariant()
    def each_dataset_has_at_most_one_stack_in_use(self) -> None:
        """Stacks that are being deleted or are quarantined are not in use."""
        for dataset_id in DATASETS:
            standing = self.world.census.of_node(node_id_of(dataset_id))
            deleted = {stack.stack_id for stack in standing if stack.status.startswith("DELETE_")}
            in_use = [stack.name for stack in standing if stack.stack_id not in deleted | self.quarantined()]
            assert len(in_use) <= 1, f"{dataset_id}: {in_use}"

    @invariant()
    def node_that_is_not_ready_has_a_reason(self) -> None:
        for node in self.world.nodes.all():
            waits = node.should_run and node.status is not NodeStatus.READY
            if waits and self.passed_at > node.requested_at + DEADLINE:
                assert node.reason or node.failure

    @invariant()
    def retiring_node_is_not_published(self) -> None:
        """A process may die before it clears the address, which the next pass then clears."""
        for dataset_id in DATASETS:
            node = self.node(dataset_id)
            shown = self.world.datasets.get(dataset_id).node_address
            if node is not None and node.status is NodeStatus.RETIRING and self.passed_at > node.deletion_at:
                assert shown is None or shown != node.address or node.is_refused

    @invariant()
    def model_with_a_link_is_in_the_bucket(self) -> None:
        for model in self.world.all_models():
            assert model.download_key is None or model.model_id in self.world.bucket.files

    def teardown(self) -> None:
        """End all faults; check that nodes reach their desired states, and that unneeded ones are stopped."""
        if hasattr(self, "world"):
            self.end_all_faults()
            self.reach_desired_states()
            self.stop_unneeded_nodes()

    def end_all_faults(self) -> None:
        cloudformation = self.world.cloudformation
        cloudformation.throttle = cloudformation.unanswered = cloudformation.lag = 0.0
        self.world.bucket.away = self.world.server.silent = False
        self.world.fates.clear()
        for stack in self.world.census.standing(prefix=f"{PREFIX}-"):
            self.world.operator.protect(stack.name, protected=False)

    def reconcile(self, seconds: float) -> None:
        for _ in range(int(seconds // LONG_PASS)):
            self.reconcilers[0].run_pass()
            self.world.clock.tick(LONG_PASS)

    def reach_desired_states(self) -> None:
        """Every requested node is ready, or failed with a reason; every complete model is in the bucket."""
        self.reconcile(3 * LONGEST_OPERATION)
        self.world.clock.tick(DAY)  # failed nodes are launched again after a day
        self.reconcile(3 * LONGEST_OPERATION)
        for dataset_id in DATASETS:
            self.request_again(dataset_id)
        self.reconcile(BUDGET.attempts * (DEADLINE + LONGEST_OPERATION))
        for node in self.world.nodes.all():
            has_failed = node.status is NodeStatus.FAILED and node.failure
            assert not node.should_run or node.status is NodeStatus.READY or has_failed, node
        for model in self.world.all_models():
            assert not model.retrieval_due, model
            assert model.percent_complete < 100 or model.model_id in self.world.bucket.files

    def stop_unneeded_nodes(self) -> None:
        for model in self.world.all_models():
            a_model_service(self.world).withdraw(model.model_id, caller=SCIENTIST)
        self.reconcile(IDLE_TIMEOUT + 3 * LONGEST_OPERATION)

        assert self.world.census.standing(prefix=f"{PREFIX}-") == []
        assert self.world.secrets.passwords == {}
        assert {node.charged_to for node in self.world.nodes.all()} <= {None}
        assert not any(self.world.datasets.get(dataset_id).node_address for dataset_id in DATASETS)


def _die() -> None:
    raise Crash


TestMarketplace = pytest.mark.exhaustive(pytest.mark.usefixtures("no_logs")(Marketplace.TestCase))
TestMarketplace.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="MACHINE_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink] if SHRINK else [Phase.generate],
)
