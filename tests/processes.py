"""The service's processes on a fake world, wired as in production. A world may be seen through a wire."""

from dataclasses import dataclass, replace
from typing import Any

from orchestration.adapters.model_bucket import DownloadLinks
from orchestration.adapters.upload_tokens import SignedUploadTokens
from orchestration.control.collect import Resync, Retrieval
from orchestration.control.launch import Launcher
from orchestration.control.lifecycle import Lifecycle
from orchestration.control.orphans import SupersededStacks
from orchestration.control.reconciler import Intervals, Reconciler
from orchestration.control.records import Records
from orchestration.domain.cycle import LOSS_BOUND
from orchestration.domain.decision import Budget, Rules
from orchestration.domain.demand import IdleTimeout, Waker
from orchestration.domain.node import Quota
from orchestration.domain.progress import ProgressService
from orchestration.domain.publication import Publication
from orchestration.domain.uploads import UploadBinding
from orchestration.requests.accounts import AccountService
from orchestration.requests.devices import DeviceService, ReportRules
from orchestration.requests.models import ModelService
from orchestration.requests.nodes import NodeAnswer, NodeService
from orchestration.requests.uploads import UploadService
from tests.builders import DATASET, MODEL, SCIENTIST
from tests.fakes import World

DEADLINE = 600.0
IDLE_TIMEOUT = 100.0
PASS = 30.0
DAY = 86_400.0
OVERLAP = 30 * DAY
LATE = 600.0
QUOTA = Quota(per_buyer=3, in_all=5)
BUDGET = Budget(attempts=3, cool_down=600.0)
RULES = Rules(DEADLINE, BUDGET)
INTERVALS = Intervals(passes=PASS, steady=2 * PASS, attention=1.0)
SILENT_AFTER = 3600.0
STALE_AFTER = 7 * DAY
PUBLIC_URL = "http://orchestration.test:5001"
LINKS = DownloadLinks(PUBLIC_URL, "s" * 32)
UPLOAD_TOKENS = SignedUploadTokens("s" * 32)


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings that the processes of a deployment share; the defaults are those of most tests."""

    rules: Rules = RULES
    quota: Quota = QUOTA
    intervals: Intervals = INTERVALS
    idle_timeout: float = IDLE_TIMEOUT


USUAL = Terms()


def a_publication(world: World) -> Publication:
    """Return the part that publishes addresses of nodes."""
    return Publication(world.nodes, world.datasets, world.models)


def a_lifecycle(world: World, terms: Terms = USUAL) -> Lifecycle:
    """Return the part that takes steps of a node."""
    records = Records(world.nodes, world.audit)
    return Lifecycle(
        records=records,
        stacks=world.stacks,
        secrets=world.secrets,
        server=world.server,
        models=world.models,
        launcher=Launcher(
            records=records,
            stacks=world.stacks,
            secrets=world.secrets,
            node_databases=world.node_databases,
            clock=world.clock,
            quota=terms.quota,
        ),
        publication=a_publication(world),
        clock=world.clock,
        rules=terms.rules,
    )


def a_node_service(world: World, terms: Terms = USUAL) -> NodeService:
    """Return the use cases of `/create` and `/delete`."""
    return NodeService(
        models=world.models,
        datasets=world.datasets,
        users=world.users,
        nodes=world.nodes,
        publication=a_publication(world),
        upload_tokens=UPLOAD_TOKENS,
        budget=terms.rules.budget,
        quota=terms.quota,
        clock=world.clock,
    )


def an_upload_service(world: World, binding: UploadBinding = UploadBinding.ADDRESS) -> UploadService:
    """Return the use cases of uploads."""
    return UploadService(
        progress=a_progress_service(world),
        models=world.models,
        tokens=UPLOAD_TOKENS,
        audit=world.audit,
        binding=binding,
        clock=world.clock,
    )


def a_device_service(world: World, **rules: Any) -> DeviceService:
    """Return the use cases of devices."""
    usual = ReportRules(bound=LOSS_BOUND, late=LATE, device_seen_within=DAY, key_required=False)
    return DeviceService(
        datasets=world.datasets,
        models=world.models,
        nodes=world.nodes,
        accounts=an_account_service(world),
        waker=Waker(world.nodes, world.models, world.clock),
        rules=replace(usual, **rules),
        clock=world.clock,
    )


def a_model_service(world: World) -> ModelService:
    """Return the use cases of models."""
    return ModelService(models=world.models, links=LINKS, presign=world.bucket.fresh_url, clock=world.clock)


def a_progress_service(world: World) -> ProgressService:
    """Return the part that records progress reported by nodes."""
    return ProgressService(world.models, world.nodes, world.clock)


def an_account_service(world: World) -> AccountService:
    """Return the use cases of API keys and purchases."""
    return AccountService(world.users, world.keys, world.clock, overlap=OVERLAP)


def a_retrieval(world: World) -> Retrieval:
    """Return the part that retrieves trained models."""
    return Retrieval(
        models=world.models,
        server=world.server,
        secrets=world.secrets,
        bucket=world.bucket,
        link_of="https://link.test/{}/{}".format,
        audit=world.audit,
        clock=world.clock,
    )


def a_reconciler(world: World, terms: Terms = USUAL) -> Reconciler:
    """Return the reconciler."""
    lifecycle = a_lifecycle(world, terms)
    return Reconciler(
        nodes=world.nodes,
        models=world.models,
        stacks=world.stacks,
        lifecycle=lifecycle,
        resync=Resync(
            models=world.models,
            server=world.server,
            secrets=world.secrets,
            progress=a_progress_service(world),
            audit=world.audit,
            clock=world.clock,
            silent_after=SILENT_AFTER,
        ),
        retrieval=a_retrieval(world),
        idle_timeout=IdleTimeout(
            nodes=world.nodes,
            models=world.models,
            clock=world.clock,
            timeout=terms.idle_timeout,
            stale_after=STALE_AFTER,
        ),
        superseded=SupersededStacks(
            records=lifecycle.records, stacks=world.stacks, secrets=world.secrets, clock=world.clock
        ),
        waker=Waker(world.nodes, world.models, world.clock),
        clock=world.clock,
        intervals=terms.intervals,
    )


def reconcile(world: World, passes: int = 20) -> World:
    """Run passes of the reconciler; by default enough for every node to reach its desired state."""
    reconciler = a_reconciler(world)
    for _ in range(passes):
        reconciler.run_pass()
        world.clock.tick(PASS)
    return world


def attend(world: World) -> None:
    """Let the reconciler take one step for every node that is marked for attention."""
    a_reconciler(world).attend()


def request_node(service: NodeService, **changes: Any) -> NodeAnswer:
    """Request a node as artificienlib does with `/create`."""
    usual = {
        "dataset_id": DATASET,
        "model_id": MODEL,
        "features": ("age", "bmi"),
        "labels": ("progression",),
        "caller": SCIENTIST,
    }
    return service.request(**usual | changes)
