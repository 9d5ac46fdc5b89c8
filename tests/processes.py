"""The service's processes on a fake world: wired as in production, each perhaps behind a wire of its own."""

import sys
from dataclasses import dataclass, replace
from typing import Any

from orchestration.control.collect import RetrievalService
from orchestration.control.healing import HealingService
from orchestration.control.launch import Launcher
from orchestration.control.lifecycle import Lifecycle
from orchestration.control.orphans import StrayService
from orchestration.control.publication import Publication
from orchestration.control.reconciler import Reconciler, Rhythm
from orchestration.control.records import Records
from orchestration.control.rest import RestService
from orchestration.domain.decision import Budget, Rules
from orchestration.domain.demand import Waker
from orchestration.domain.node import Quota
from orchestration.domain.progress import TrainingService
from orchestration.requests.accounts import AccountService
from orchestration.requests.devices import CatalogueService
from orchestration.requests.nodes import NodeRequest, NodeService
from orchestration.requests.reports import ReportRules, ReportService
from tests.builders import DATASET, MODEL
from tests.fakes import World

DEADLINE = 600.0
GRACE = 100.0
SWEEP = 30.0
DAY = 86_400.0
OVERLAP = 30 * DAY
LATE = 600.0
QUOTA = Quota(per_buyer=3, in_all=5)
BUDGET = Budget(attempts=3, cool_down=600.0)
RULES = Rules(DEADLINE, BUDGET)
RHYTHM = Rhythm(interval=SWEEP, ready=2 * SWEEP)
SILENT_AFTER = 3600.0
STALE_AFTER = 7 * DAY


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings that the processes of a deployment share; by default those of most tests."""

    rules: Rules = RULES
    quota: Quota = QUOTA
    rhythm: Rhythm = RHYTHM
    grace: float = GRACE


USUAL = Terms()


def a_lifecycle(world: World, terms: Terms = USUAL) -> Lifecycle:
    """What walks a node from one phase to the next."""
    records = Records(world.nodes, world.audit)
    return Lifecycle(
        records=records,
        stacks=world.stacks,
        secrets=world.secrets,
        server=world.server,
        models=world.models,
        launcher=Launcher(
            records, world.stacks, world.secrets, world.node_databases, world.clock, terms.quota
        ),
        publication=Publication(world.nodes, world.datasets, world.models),
        clock=world.clock,
        rules=terms.rules,
    )


def a_node_service(world: World, terms: Terms = USUAL) -> NodeService:
    """What a web worker has for /create and /delete."""
    return NodeService(
        models=world.models,
        datasets=world.datasets,
        users=world.users,
        nodes=world.nodes,
        lifecycle=a_lifecycle(world, terms),
        clock=world.clock,
    )


def a_report_service(world: World, **rules: Any) -> ReportService:
    """What a web worker has for devices' reports."""
    usual = ReportRules(bound=sys.float_info.max, late=LATE, device_seen_within=DAY, key_required=False)
    accounts = an_account_service(world)
    return ReportService(
        world.models, world.datasets, world.nodes, accounts, replace(usual, **rules), world.clock
    )


def a_training_service(world: World) -> TrainingService:
    """What a web worker has for nodes' words."""
    return TrainingService(world.models, world.nodes, world.clock)


def an_account_service(world: World) -> AccountService:
    """What a web worker has for keys and purchases."""
    return AccountService(world.users, world.keys, world.clock, overlap=OVERLAP)


def a_catalogue(world: World) -> CatalogueService:
    """What a web worker has for phones."""
    accounts = an_account_service(world)
    waker = Waker(world.nodes, world.clock)
    return CatalogueService(world.datasets, world.models, world.nodes, accounts, waker, world.clock)


def a_retrieval(world: World) -> RetrievalService:
    """What brings trained models home."""
    return RetrievalService(
        models=world.models,
        server=world.server,
        secrets=world.secrets,
        bucket=world.bucket,
        link_of="https://link.test/{}/{}".format,
        audit=world.audit,
        clock=world.clock,
    )


def a_reconciler(world: World, terms: Terms = USUAL) -> Reconciler:
    """The reconciler's process."""
    lifecycle = a_lifecycle(world, terms)
    return Reconciler(
        nodes=world.nodes,
        models=world.models,
        stacks=world.stacks,
        lifecycle=lifecycle,
        healing=HealingService(
            models=world.models,
            server=world.server,
            secrets=world.secrets,
            training=a_training_service(world),
            clock=world.clock,
            silent_after=SILENT_AFTER,
        ),
        retrieval=a_retrieval(world),
        rest=RestService(world.nodes, world.models, world.clock, terms.grace, STALE_AFTER),
        strays=StrayService(lifecycle.records, world.stacks, world.secrets, world.clock),
        waker=Waker(world.nodes, world.clock),
        clock=world.clock,
        rhythm=terms.rhythm,
    )


def settle(world: World, sweeps: int = 20) -> World:
    """Let the reconciler pass long enough for anything to come to rest."""
    reconciler = a_reconciler(world)
    for _ in range(sweeps):
        reconciler.sweep()
        world.clock.tick(SWEEP)
    return world


def a_request(**changes: object) -> NodeRequest:
    """What artificienlib sends to /create."""
    usual = {"dataset_id": DATASET, "model_id": MODEL, "features": ("age", "bmi"), "labels": ("progression",)}
    return NodeRequest(**usual | changes)
