"""One fake per port: in memory, as strict as the real ones, with faults that can be switched on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import quote

from orchestration.domain.credentials import StoredKey, hash_of
from orchestration.domain.cycle import NO_REPORTS, Progress, Report, SealedCycle, Tally
from orchestration.domain.entities import Caller, Dataset, Model, User
from orchestration.domain.errors import (
    Conflict,
    NodeUnreachable,
    NotFound,
    QuotaExceeded,
    StackFailed,
    Unauthenticated,
    Upstream,
)
from orchestration.domain.node import (
    ABSENT_STACK,
    Node,
    NodeStack,
    NodeStatus,
    Quota,
    StackPhase,
    Wish,
    node_id_of,
)
from orchestration.domain.ports import AuditEntry, NodeSecret
from tests.builders import NOON

Name = tuple[str, int]
"""Of a stack or a secret: a node's id and the generation."""


class FakeClock:
    """A clock under the test's control."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds


class FakeTokens:
    """Takes a token that is a known username."""

    def __init__(self, *usernames: str) -> None:
        self.usernames = set(usernames)

    def verify(self, token: str) -> Caller:
        if token not in self.usernames:
            raise Unauthenticated("The token's signature doesn't hold.")
        return Caller(token)


class FakeDatasets:
    """The dataset table."""

    def __init__(self) -> None:
        self.rows: dict[str, Dataset] = {}

    def add(self, dataset: Dataset) -> None:
        self.rows[dataset.dataset_id] = dataset

    def get(self, dataset_id: str) -> Dataset:
        if dataset_id not in self.rows:
            raise NotFound(f"There is no dataset {dataset_id!r}.")
        return self.rows[dataset_id]

    def mark_set_up(self, dataset_id: str) -> None:
        self._update(dataset_id, is_set_up=True)

    def device_seen(self, dataset_id: str, now: float) -> None:
        self._update(dataset_id, device_seen_at=now)

    def publish_node(self, dataset_id: str, address: str) -> None:
        self._update(dataset_id, node_address=address)

    def unpublish_node(self, dataset_id: str) -> None:
        self._update(dataset_id, node_address=None)

    def _update(self, dataset_id: str, **changes: Any) -> None:
        if dataset_id in self.rows:
            self.rows[dataset_id] = replace(self.rows[dataset_id], **changes)


class FakeUsers:
    """The user table."""

    def __init__(self) -> None:
        self.rows: dict[str, User] = {}
        self.hints: dict[str, str] = {}

    def add(self, user: User) -> None:
        self.rows[user.user_id] = user

    def named(self, username: str) -> User:
        for user in self.rows.values():
            if user.username == username:
                return user
        raise NotFound("There is no such user.")

    def mask_legacy_key(self, user: User, hint: str) -> None:
        row = self.rows.get(user.user_id)
        if row is not None and user.legacy_api_key in (None, row.legacy_api_key):
            self.rows[user.user_id] = replace(row, legacy_api_key=None)
            self.hints[user.user_id] = hint


class FakeApiKeys:
    """The key table."""

    def __init__(self) -> None:
        self.rows: dict[str, StoredKey] = {}

    def find(self, key_hash: str) -> StoredKey | None:
        return self.rows.get(key_hash)

    def of(self, owner: str) -> Sequence[StoredKey]:
        return [key for key in self.rows.values() if key.owner == owner]

    def put(self, key: StoredKey) -> None:
        self.rows[key.key_hash] = key

    def used(self, key: StoredKey, now: float) -> None:
        if key.key_hash in self.rows:
            self.rows[key.key_hash] = replace(self.rows[key.key_hash], last_used_at=now)


class FakeModels:
    """The model table. `contention`: so many closings fail, as if another call were closing the cycle."""

    def __init__(self) -> None:
        self.rows: dict[str, Model] = {}
        self.links: dict[str, str] = {}
        self.causes: dict[str, str] = {}
        self.withdrawn_at: dict[str, float] = {}
        self.rejected: dict[str, int] = {}
        self.writes: list[str] = []
        self.contention = 0

    def add(self, model: Model) -> None:
        self.rows[model.model_id] = model

    def get(self, model_id: str) -> Model:
        for candidate in (model_id, model_id.lower()):
            if candidate in self.rows:
                return self.rows[candidate]
        raise NotFound(f"There is no model {model_id!r}.")

    def accept(self, model: Model, features: Sequence[str], labels: Sequence[str], hosted_as: str) -> Model:
        known = None if hosted_as == model.model_id else hosted_as
        wanted = (tuple(features), tuple(labels), known)
        if (model.features, model.labels, model.hosted_as) == wanted:
            return model
        row = self.rows.get(model.model_id)
        if row is None or not row.is_active or row.owner != model.owner:
            raise Conflict(f"Model {model.model_id!r} is complete or withdrawn.")
        return self._update(model.model_id, features=wanted[0], labels=wanted[1], hosted_as=known)

    def on_dataset(self, dataset_id: str) -> Sequence[Model]:
        return [row for row in self.rows.values() if row.dataset_id == dataset_id and row.is_active]

    def to_retrieve(self, dataset_id: str) -> Sequence[Model]:
        return [row for row in self.rows.values() if row.dataset_id == dataset_id and row.retrieval_due]

    def count(self, model: Model, report: Report) -> Tally | None:
        row = self.get(model.model_id)
        if not row.is_active:
            return None
        tally = replace(
            row.tally,
            devices=row.tally.devices + 1,
            loss_sum=float(row.tally.loss_sum + report.loss),
            sample={**row.tally.sample, row.tally.places()[0]: report.loss},
        )
        if report.acc is not None:
            tally = replace(tally, acc_sum=tally.acc_sum + report.acc, acc_devices=tally.acc_devices + 1)
        return self._update(row.model_id, tally=tally).tally

    def reject(self, model: Model) -> None:
        self.rejected[model.model_id] = self.rejected.get(model.model_id, 0) + 1

    def close_cycle(self, model: Model, progress: Progress, now: float) -> bool:
        row = self.rows.get(model.model_id)
        if self.contention:
            self.contention -= 1
            return False
        if row is None or not row.is_active or row.sealed or row.tally.cycle != model.tally.cycle:
            return False
        cycle = progress.cycle or row.tally.cycle + 1
        self._update(
            row.model_id,
            percent_complete=progress.percent_complete,
            sealed=SealedCycle(cycle, progress.percent_complete, row.tally, now),
            tally=replace(NO_REPORTS, cycle=cycle),
            is_active=not progress.is_last,
            ended_at=now if progress.is_last else 0.0,
            retrieval_due=progress.is_last,
        )
        self.settle(self.rows[row.model_id])
        return True

    def settle(self, model: Model) -> None:
        row = self.rows.get(model.model_id)
        if model.sealed is None or row is None or row.sealed != model.sealed:
            return
        self._update(row.model_id, sealed=None, history=(*row.history, model.sealed.settled()))

    def retrieved(self, model: Model, download_key: str, link: str) -> None:
        if self.rows[model.model_id].retrieval_due:
            self._update(model.model_id, retrieval_due=False, download_key=download_key)
            self.links[model.model_id] = link
            self.causes.pop(model.model_id, None)

    def relink(self, model: Model, download_key: str, link: str) -> bool:
        if self.rows[model.model_id].download_key != model.download_key:
            return False
        self._update(model.model_id, download_key=download_key)
        self.links[model.model_id] = link
        return True

    def not_retrieved(self, model: Model, cause: str) -> None:
        if self.rows[model.model_id].retrieval_due:
            self.causes[model.model_id] = cause

    def withdraw(self, model: Model, now: float) -> None:
        self._update_existing(
            model.model_id, is_active=False, ended_at=now, retrieval_due=False, download_key=None
        )
        self.links.pop(model.model_id, None)
        self.causes.pop(model.model_id, None)
        self.withdrawn_at[model.model_id] = now

    def publish_node(self, model: Model, address: str) -> None:
        self._update_existing(model.model_id, node_address=address)

    def unpublish_node(self, dataset_id: str) -> None:
        for row in list(self.rows.values()):
            if row.dataset_id == dataset_id and row.node_address is not None:
                self._update(row.model_id, node_address=None)

    def _update_existing(self, model_id: str, **changes: Any) -> None:
        if model_id not in self.rows:
            raise NotFound(f"There is no model {model_id!r}.")
        self._update(model_id, **changes)

    def _update(self, model_id: str, **changes: Any) -> Model:
        self.writes.append(model_id)
        self.rows[model_id] = replace(self.rows[model_id], **changes)
        return self.rows[model_id]


class FakeNodes:
    """The node table. `away`: it doesn't list its records."""

    def __init__(self) -> None:
        self.rows: dict[str, Node] = {}
        self.away = False

    def add(self, node: Node) -> None:
        self.rows[node.node_id] = node

    def get(self, node_id: str) -> Node | None:
        return self.rows.get(node_id)

    def all(self) -> Iterable[Node]:
        if self.away:
            raise Upstream("DynamoDB did not answer.")
        return list(self.rows.values())

    def ask(self, dataset_id: str, now: float, asked_by: str = "ada") -> Node:
        node_id = node_id_of(dataset_id)
        row = self.rows.get(node_id) or Node(node_id, dataset_id)
        return self._write(replace(row, wish=Wish.UP, asked_at=now, asked_by=asked_by, idle_since=0.0))

    def let_go(self, node: Node) -> bool:
        row = self.rows.get(node.node_id)
        if row is None or (row.asked_at, row.generation) != (node.asked_at, node.generation):
            return False
        self._write(replace(row, wish=Wish.DOWN))
        return True

    def claim(self, node: Node, now: float, quota: Quota) -> Node | None:
        row = self._as_seen(node)
        if row is None or row.wish is not Wish.UP:
            return None
        charged = [other.charged_to for other in self.rows.values() if other.charged_to is not None]
        if charged.count(node.asked_by) >= quota.per_buyer:
            raise QuotaExceeded(f"No more than {quota.per_buyer} nodes may be awake, and you have as many.")
        if len(charged) >= quota.in_all:
            raise QuotaExceeded(
                f"No more than {quota.in_all} nodes may be awake, and all together have as many."
            )
        changes = {"status": NodeStatus.DEPLOYING, "launched_at": now, "charged_to": node.asked_by}
        changes["attempts"] = node.attempts + 1
        return self._write(replace(row, generation=row.generation + 1, **changes))

    def release(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        return self.change(node, {**changes, "status": NodeStatus.ABSENT, "charged_to": None})

    def change(self, node: Node, changes: Mapping[str, object]) -> Node | None:
        row = self._as_seen(node)
        return None if row is None else self._write(replace(row, **dict(changes)))

    def _as_seen(self, node: Node) -> Node | None:
        row = self.rows.get(node.node_id)
        if row is None or (row.generation, row.status) != (node.generation, node.status):
            return None
        return row

    def _write(self, node: Node) -> Node:
        self.rows[node.node_id] = node
        return node


class FakeAudit:
    """The audit table."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    def told(self) -> list[tuple[str, str, str]]:
        """Who did what to what, of what was done."""
        return [(e.actor, e.action, e.subject) for e in self.entries if e.result == "ok"]


class FakeSecrets:
    """Secrets Manager: one secret a generation, `passwords` are what the nodes would know."""

    def __init__(self) -> None:
        self.passwords: dict[Name, str] = {}
        self.made = 0

    def ensure(self, node: Node) -> NodeSecret:
        name = (node.node_id, node.generation)
        if name not in self.passwords:
            self.made += 1
            self.passwords[name] = f"secret {self.made} of {name}"
        url = f"postgresql://{self.passwords[name]}@cluster.test/"
        return NodeSecret(f"arn:secret:{name}", hash_of(self.passwords[name]), url)

    def discard(self, node: Node) -> None:
        self.passwords.pop((node.node_id, node.generation), None)


class FakeTenants:
    """The nodes' databases: generation and URL that open each. `trouble` is raised as long as it is there."""

    def __init__(self) -> None:
        self.logins: dict[str, tuple[int, str]] = {}
        self.trouble: Exception | None = None

    def new_url(self, node: Node) -> str:
        return f"postgresql://{node.node_id}:{node.generation}@cluster.test/"

    def ensure(self, node: Node, database_url: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        known = self.logins.get(node.node_id, (0, ""))
        self.logins[node.node_id] = max(known, (node.generation, database_url))

    def discard(self, node: Node) -> None:
        self.logins.pop(node.node_id, None)


@dataclass
class FakeStack:
    """One stack, as CloudFormation would tell of it."""

    node_id: str
    generation: int
    secret_reference: str
    phase: StackPhase = StackPhase.CREATING
    reason: str = ""

    @property
    def stack_id(self) -> str:
        return f"arn:stack:{self.node_id}-{self.generation}"

    @property
    def address(self) -> str:
        """Another one for each generation."""
        return f"node-{self.generation}.{self.node_id}.test"


class FakeStacks:
    """CloudFormation. A stack in motion is one phase further each time after it was looked at.

    `refusal`: it won't launch; `failure`: launches fail; `hangs`: nothing moves; `undeletable`: deletions
    fail; `away`: it doesn't answer.
    """

    def __init__(self) -> None:
        self.stacks: dict[Name, FakeStack] = {}
        self.launched: list[Name] = []
        self.most_at_once = 0
        self.refusal = self.failure = ""
        self.hangs = self.undeletable = self.away = False

    def describe(self, node: Node) -> NodeStack:
        self._reached()
        stack = self._find(node)
        if stack is None:
            return ABSENT_STACK
        address = stack.address if stack.phase is StackPhase.USABLE else None
        shown = NodeStack(stack.phase, stack.stack_id, address, stack.reason)
        if not self.hangs:
            stack.phase = self._after(stack)
        return shown

    def launch(self, node: Node, secret_reference: str) -> str | None:
        self._reached()
        if self.refusal:
            raise StackFailed(self.refusal)
        name = (node.node_id, node.generation)
        if name in self.stacks:
            return None
        self.stacks[name] = FakeStack(*name, secret_reference)
        self.launched.append(name)
        self.most_at_once = max(self.most_at_once, len(self.standing(node.node_id)))
        return self.stacks[name].stack_id

    def retire(self, node: Node) -> None:
        self._reached()
        stack = self._find(node)
        if stack is not None and stack.phase is not StackPhase.ABSENT:
            stack.phase = StackPhase.DELETING

    def standing(self, node_id: str) -> list[FakeStack]:
        """The stacks of a node that cost money."""
        return [
            stack
            for stack in self.stacks.values()
            if stack.node_id == node_id and stack.phase is not StackPhase.ABSENT
        ]

    def _after(self, stack: FakeStack) -> StackPhase:
        match stack.phase:
            case StackPhase.CREATING:
                stack.reason = self.failure
                return StackPhase.FAILING if self.failure else StackPhase.USABLE
            case StackPhase.FAILING:
                return StackPhase.BROKEN
            case StackPhase.DELETING:
                return StackPhase.UNDELETABLE if self.undeletable else StackPhase.ABSENT
            case _:
                return stack.phase

    def _find(self, node: Node) -> FakeStack | None:
        if node.stack_id is None:  # under its name, a stack that is gone can't be found any more
            stack = self.stacks.get((node.node_id, node.generation))
            return None if stack is None or stack.phase is StackPhase.ABSENT else stack
        return next(stack for stack in self.stacks.values() if stack.stack_id == node.stack_id)

    def _reached(self) -> None:
        if self.away:
            raise Upstream("CloudFormation did not answer.")


class FakeServer:
    """The nodes themselves: one answers where its stack stands. `silent`: none does.

    `troubles` are raised, one each time a trained model is asked for; then comes `state`.
    """

    def __init__(self, stacks: FakeStacks) -> None:
        self._stacks = stacks
        self.silent = False
        self.state = b"trained"
        self.troubles: dict[str, list[Exception]] = {}
        self.asked_for: list[str] = []

    def answers(self, address: str, node_id: str) -> bool:
        standing = self._stacks.standing(node_id)
        return not self.silent and any(
            stack.address == address and stack.phase is StackPhase.USABLE for stack in standing
        )

    def trained_model(self, address: str, model: Model) -> bytes:
        if not self.answers(address, node_id_of(model.dataset_id)):
            raise NodeUnreachable("The node did not hand over the trained model.")
        self.asked_for.append(model.name_on_node)
        if self.troubles.get(model.model_id):
            raise self.troubles[model.model_id].pop(0)
        return self.state


class FakeBucket:
    """The bucket. `away`: it doesn't answer."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.away = False

    def store(self, model: Model, state: bytes) -> None:
        if self.away:
            raise Upstream("S3 did not answer.")
        self.files[model.model_id] = state

    def fresh_url(self, model_id: str) -> str:
        return f"https://bucket.test/{quote(model_id, safe='')}?presigned"


class Crash(BaseException):
    """The process dies: nothing may catch this."""


class Wire:
    """Between a process and its ports: notes each call, and does something right after the n-th."""

    def __init__(self, after: int | None = None, then: Callable[[], None] | None = None) -> None:
        self.calls: list[str] = []
        self._after = after
        self._then = then

    def passed(self, call: str) -> None:
        self.calls.append(call)
        if self._then is not None and len(self.calls) == self._after:
            self._then()


class _Tapped:
    def __init__(self, port: object, name: str, wire: Wire) -> None:
        self._tap = (port, name, wire)

    def __getattr__(self, attribute: str) -> Any:
        port, name, wire = self._tap
        method = getattr(port, attribute)

        def call(*arguments: object, **named: object) -> Any:
            result = method(*arguments, **named)
            wire.passed(f"{name}.{attribute}")
            return result

        return call


@dataclass
class World:
    """Everything outside the service at once."""

    datasets: FakeDatasets = field(default_factory=FakeDatasets)
    users: FakeUsers = field(default_factory=FakeUsers)
    keys: FakeApiKeys = field(default_factory=FakeApiKeys)
    models: FakeModels = field(default_factory=FakeModels)
    nodes: FakeNodes = field(default_factory=FakeNodes)
    secrets: FakeSecrets = field(default_factory=FakeSecrets)
    tenants: FakeTenants = field(default_factory=FakeTenants)
    audit: FakeAudit = field(default_factory=FakeAudit)
    stacks: FakeStacks = field(default_factory=FakeStacks)
    bucket: FakeBucket = field(default_factory=FakeBucket)
    server: Any = None
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.server = self.server or FakeServer(self.stacks)

    def through(self, wire: Wire) -> "World":
        """The same world, seen by a process whose every call is noted."""
        ports = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "clock"}
        return replace(self, **{name: _Tapped(port, name, wire) for name, port in ports.items()})
