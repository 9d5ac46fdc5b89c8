"""Users, devices, failures and the clock, in any order that Hypothesis thinks of; what must always hold.

The service's own parts run on the fakes of CloudFormation and of DynamoDB. Every call to them may be a
process's last.
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
"""Seconds: the slowest that anything of CloudFormation's ends by itself here."""

EXAMPLES, STEPS = int(os.environ.get("MACHINE_EXAMPLES", "40")), int(os.environ.get("MACHINE_STEPS", "40"))

SHRINK = "MACHINE_SHRINK" in os.environ
"""Takes minutes; what was found is told in either case."""

datasets = st.sampled_from(DATASETS)
others = st.sampled_from(["reconcile", "give up", "ask"])
fates = st.builds(
    Fate,
    creation=st.sampled_from(Creation),
    deletion=st.sampled_from([kind for kind in Deletion if kind not in (Deletion.NEVER, Deletion.HANGS)]),
    answers=st.sampled_from([True, True, True, False]),
    silent=st.sampled_from([None, None, (200.0, 400.0), (200.0, 5000.0)]),
    dies_after=st.sampled_from([None, None, 300.0]),
)


class Marketplace(RuleBasedStateMachine):
    """Everything that can happen to three datasets."""

    @initialize(seed=st.integers(0, 2**16))
    def open(self, seed: int) -> None:
        self.world = a_cloud(dataset_ids=DATASETS, seed=seed, validate=False)
        self.world.remove("model_table")
        self.reconcilers = [a_reconciler(self.world), a_reconciler(self.world)]
        self.submitted = 0
        self.passed_at = 0.0

    # What users do

    @rule(dataset_id=datasets)
    def submit_a_model(self, dataset_id: str) -> None:
        self.ask(dataset_id, self.submitted_to(dataset_id))

    def submitted_to(self, dataset_id: str) -> str:
        self.submitted += 1
        name = f"model-{self.submitted}"
        self.world.put(a_submission(model_id=name, dataset_id=dataset_id))
        return name

    @rule(dataset_id=datasets)
    def ask_again(self, dataset_id: str) -> None:
        for model in self.world.models.on_dataset(dataset_id):
            self.ask(dataset_id, model.model_id)

    def ask(self, dataset_id: str, model_id: str, world: Cloud | None = None) -> None:
        with suppress(OrchestrationError):
            request_node(a_node_service(world or self.world), dataset_id=dataset_id, model_id=model_id)

    @rule(dataset_id=datasets)
    def withdraw_a_model(self, dataset_id: str) -> None:
        for model in self.world.models.on_dataset(dataset_id)[:1]:
            a_model_service(self.world).withdraw(model.model_id, caller=SCIENTIST)

    @rule(dataset_id=datasets)
    def give_up_a_node(self, dataset_id: str) -> None:
        with suppress(OrchestrationError):
            a_node_service(self.world).retire(dataset_id, caller=DEVELOPER, force=True)

    # What devices and nodes do

    @rule(dataset_id=datasets)
    def call_as_a_device(self, dataset_id: str) -> None:
        calls = dict(self.world.cloudformation.calls)
        work = a_device_service(self.world).work(dataset_id, api_key=LEGACY_KEY)
        node = self.node(dataset_id)

        assert self.world.cloudformation.calls == calls, "a device's call reached CloudFormation"
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
    def something_befalls_the_next_stack(self, fate: Fate) -> None:
        self.world.fates.append(fate)

    @rule(share=st.sampled_from([0.0, 0.0, 0.2, 0.9]), lost=st.sampled_from([0.0, 0.0, 0.1]))
    def aws_throttles_and_loses_answers(self, share: float, lost: float) -> None:
        self.world.cloudformation.throttle = share
        self.world.cloudformation.unanswered = lost

    @rule(lag=st.sampled_from([0.0, 0.0, 5.0]))
    def descriptions_lag(self, lag: float) -> None:
        self.world.cloudformation.lag = lag

    @rule(away=st.booleans())
    def the_bucket_comes_and_goes(self, away: bool) -> None:
        self.world.bucket.away = away

    @rule(silent=st.booleans())
    def the_network_to_nodes_comes_and_goes(self, silent: bool) -> None:
        self.world.server.silent = silent

    @rule(dataset_id=datasets)
    def an_operator_deletes_a_stack(self, dataset_id: str) -> None:
        for stack in self.world.census.of_node(node_id_of(dataset_id))[:1]:
            with suppress(Exception):  # CloudFormation refuses, or answers nothing
                self.world.cloudformation.delete_stack(StackName=stack.stack_id)

    @rule(dataset_id=datasets, end=st.sampled_from([end for end in Update if end is not Update.HANGS]))
    def an_operator_updates_a_stack(self, dataset_id: str, end: Update) -> None:
        for stack in self.world.census.of_node(node_id_of(dataset_id))[:1]:
            with suppress(Exception):  # as above
                self.world.operator.update(stack.name, end)

    @rule(dataset_id=datasets, protected=st.booleans())
    def an_operator_switches_protection(self, dataset_id: str, protected: bool) -> None:
        for stack in self.world.census.of_node(node_id_of(dataset_id)):
            self.world.operator.protect(stack.name, protected=protected)

    # What time and our processes do

    @rule(seconds=st.sampled_from([1.0, PASS, 90.0, IDLE_TIMEOUT, DEADLINE + 1, INTERVAL, DAY, 8 * DAY]))
    def time_goes_by(self, seconds: float) -> None:
        self.world.clock.tick(seconds)

    @rule(which=st.integers(0, 1))
    def a_reconciler_passes(self, which: int) -> None:
        self.reconcilers[which].run_pass()
        self.passed()

    @rule(which=st.integers(0, 1))
    def a_reconciler_attends_to_requests(self, which: int) -> None:
        self.reconcilers[which].attend()

    @rule(passes=st.integers(2, 15))
    def a_reconciler_passes_for_a_while(self, passes: int) -> None:
        for _ in range(passes):
            self.reconcilers[0].run_pass()
            self.passed()
            self.world.clock.tick(PASS)

    def passed(self) -> None:
        """Note that a whole pass came to its end, which it need not while AWS doesn't answer."""
        if not (self.world.cloudformation.throttle or self.world.cloudformation.unanswered):
            self.passed_at = self.world.clock()

    @rule(after=st.integers(1, 60))
    def a_reconciler_dies(self, after: int) -> None:
        with suppress(Crash):
            reconciler = a_reconciler(self.world.through(Wire(after, _die)))
            reconciler.attend()
            reconciler.run_pass()

    @rule(dataset_id=datasets, after=st.integers(1, 12))
    def a_web_worker_dies(self, dataset_id: str, after: int) -> None:
        with suppress(Crash):
            self.ask(dataset_id, self.submitted_to(dataset_id), self.world.through(Wire(after, _die)))

    @rule(after=st.integers(1, 30), dataset_id=datasets, other=others)
    def a_reconciler_meets_somebody(self, after: int, dataset_id: str, other: str) -> None:
        reconciler = a_reconciler(self.world.through(Wire(after, lambda: self.meanwhile(dataset_id, other))))
        reconciler.attend()
        reconciler.run_pass()

    @rule(after=st.integers(1, 12), dataset_id=datasets, other=others)
    def a_request_meets_somebody(self, after: int, dataset_id: str, other: str) -> None:
        name = self.submitted_to(dataset_id)
        self.ask(dataset_id, name, self.world.through(Wire(after, lambda: self.meanwhile(dataset_id, other))))

    def meanwhile(self, dataset_id: str, what: str) -> None:
        match what:
            case "reconcile":
                self.reconcilers[1].attend()
                self.reconcilers[1].run_pass()
            case "give up":
                self.give_up_a_node(dataset_id)
                self.reconcilers[1].run_pass()
            case "ask":
                self.ask(dataset_id, self.submitted_to(dataset_id))
                self.reconcilers[1].attend()

    # What must hold

    def left_behind(self) -> set[str]:
        """The stacks that CloudFormation would not delete, and that an operator was told of."""
        told = (action.partition("node.quarantine: ") for _, action, _ in self.world.told())
        return {stack_id for _, _, stack_id in told if stack_id}

    def node(self, dataset_id: str) -> Node | None:
        return self.world.nodes.get(node_id_of(dataset_id))

    def serves(self, node: Node) -> bool:
        return node.address is not None and self.world.server.answers(node.address, node.node_id)

    @invariant()
    def one_live_stack_a_dataset(self) -> None:
        """What is being deleted, or resisted deletion and was left behind, is not alive."""
        for dataset_id in DATASETS:
            standing = self.world.census.of_node(node_id_of(dataset_id))
            going = {stack.stack_id for stack in standing if stack.status.startswith("DELETE_")}
            alive = [stack.name for stack in standing if stack.stack_id not in going | self.left_behind()]
            assert len(alive) <= 1, f"{dataset_id}: {alive}"

    @invariant()
    def who_waits_is_told_why(self) -> None:
        for node in self.world.nodes.all():
            waits = node.should_run and node.status is not NodeStatus.READY
            if waits and self.passed_at > node.requested_at + DEADLINE:
                assert node.reason or node.failure

    @invariant()
    def nobody_is_sent_to_a_node_that_goes(self) -> None:
        """Whoever notes it may die before the marketplace is told; the next pass tells it."""
        for dataset_id in DATASETS:
            node = self.node(dataset_id)
            shown = self.world.datasets.get(dataset_id).node_address
            if node is not None and node.status is NodeStatus.RETIRING and self.passed_at > node.deletion_at:
                assert shown is None or shown != node.address or node.is_refused

    @invariant()
    def a_model_with_a_link_is_in_the_bucket(self) -> None:
        for model in self.world.all_models():
            assert model.download_key is None or model.model_id in self.world.bucket.files

    def teardown(self) -> None:
        """All troubles end; then everything comes to rest, and nothing is left of what nobody needs."""
        if hasattr(self, "world"):
            self.clear_the_sky()
            self.all_that_is_wished_comes_true()
            self.nothing_is_left()

    def clear_the_sky(self) -> None:
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

    def all_that_is_wished_comes_true(self) -> None:
        """Ready, or given up with a reason; and every complete model is at home."""
        self.reconcile(3 * LONGEST_OPERATION)
        self.world.clock.tick(DAY)  # then what was given up is tried again
        self.reconcile(3 * LONGEST_OPERATION)
        for dataset_id in DATASETS:
            self.ask_again(dataset_id)
        self.reconcile(BUDGET.attempts * (DEADLINE + LONGEST_OPERATION))
        for node in self.world.nodes.all():
            given_up = node.status is NodeStatus.FAILED and node.failure
            assert not node.should_run or node.status is NodeStatus.READY or given_up, node
        for model in self.world.all_models():
            assert not model.retrieval_due, model
            assert model.percent_complete < 100 or model.model_id in self.world.bucket.files

    def nothing_is_left(self) -> None:
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
