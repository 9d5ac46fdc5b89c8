"""What is left at the end of a day, according to the fakes' own records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestration.domain.cycle import COMPLETE
from tests.cloud import PREFIX, Cloud
from tests.fakes import Deletion
from tests.fakes.cfn_stack import Stack


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Everything that should not exist once no node is needed, by name."""

    stacks: Sequence[str]
    secrets: Sequence[str]
    charged: Sequence[str]
    """Nodes that still count towards a quota."""
    unreported: Sequence[str]
    """Stacks that left a resource behind, without an entry in the audit log."""
    duplicates: Sequence[str]
    """Stacks of one node that existed side by side."""
    lost: Sequence[str]
    """Complete models whose file is not in the bucket."""
    crashes: int
    """Number of unexpected exceptions in the reconciler's passes."""

    def __bool__(self) -> bool:
        """Return whether anything is left."""
        return any((*self._lists(), self.crashes))

    def _lists(self) -> tuple[Sequence[str], ...]:
        return (self.stacks, self.secrets, self.charged, self.unreported, self.duplicates, self.lost)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Return the number of each kind, and the first names."""
        names = ("stacks left", "secrets left", "quota left", "retained untold", "duplicates", "models lost")
        for name, found in zip(names, self._lists(), strict=True):
            yield name, " ".join([str(len(found)), *found[:3]])
        yield "unforeseen errors", str(self.crashes)


def is_undeletable(stack: Stack) -> bool:
    """Return whether the deletion of a stack was requested and no call to AWS can complete it."""
    never_deleted = stack.fate.deletion in (Deletion.NEVER, Deletion.HANGS)
    return never_deleted and stack.status in ("DELETE_FAILED", "DELETE_IN_PROGRESS")


def reported_leaks(world: Cloud) -> set[str]:
    """Return the deleted stacks that left a resource behind and have an entry in the audit log."""
    subjects = {subject for _, action, subject in world.told() if action.startswith("node.left behind")}
    datasets = {node.node_id: f"dataset:{node.dataset_id}" for node in world.nodes.all()}
    return {name for name, _ in world.census.leaks() if datasets[_node_of(name)] in subjects}


def leftovers(world: Cloud, crashes: int) -> Leftovers:
    """Find what is left. A node with an undeletable stack exists still, with its secret and its quota."""
    everything = world.census.standing(prefix=f"{PREFIX}-")
    standing = [stack for stack in everything if not is_undeletable(stack)]
    held = {stack.name.removeprefix(f"{PREFIX}-") for stack in everything if is_undeletable(stack)}
    leaks = {name for name, _ in world.census.leaks()}
    nodes = list(world.nodes.all())
    return Leftovers(
        stacks=[f"{stack.name} {stack.status} {stack.fate}" for stack in standing],
        secrets=sorted({f"{node_id}-{number}" for node_id, number in world.secrets.passwords} - held),
        charged=[
            node.node_id
            for node in nodes
            if node.charged_to is not None and f"{node.node_id}-{node.generation}" not in held
        ],
        unreported=sorted(leaks - reported_leaks(world)),
        duplicates=[
            f"{node.node_id} {status}"
            for node in nodes
            for status in world.census.beside(node.node_id)
            if not status.startswith("DELETE_")
        ],
        lost=[
            item["model_id"]
            for item in world.dynamodb.items("model_table")
            if item["percent_complete"] >= COMPLETE
            and "withdrawn_at" not in item
            and item["model_id"] not in world.bucket.files
        ],
        crashes=crashes,
    )


def _node_of(stack_name: str) -> str:
    return stack_name.removeprefix(f"{PREFIX}-").rpartition("-")[0]
