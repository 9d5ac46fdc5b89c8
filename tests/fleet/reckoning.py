"""What truly is left when a day is over, by the fakes' own books."""

from orchestration.domain.cycle import COMPLETE
from tests.cloud import PREFIX, Cloud
from tests.fakes import Deletion
from tests.fakes.cfn_stack import Stack
from tests.fleet.figures import Leftovers


def resisting(stack: Stack) -> bool:
    """Whether nothing that can be asked of AWS takes a stack away; it has been asked."""
    never_goes = stack.fate.deletion in (Deletion.NEVER, Deletion.HANGS)
    return never_goes and stack.status in ("DELETE_FAILED", "DELETE_IN_PROGRESS")


def retained_told(world: Cloud) -> set[str]:
    """Return the deleted stacks that left something behind, where the audit log says that it was so."""
    told = {subject for _, action, subject in world.told() if action.startswith("node.left behind")}
    datasets = {node.node_id: f"dataset:{node.dataset_id}" for node in world.nodes.all()}
    return {name for name, _ in world.census.leaks() if datasets[_node_of(name)] in told}


def leftovers(world: Cloud, crashes: int) -> Leftovers:
    """Count what is left. A node whose stack resists is still there: it keeps its secret and its place."""
    everything = world.census.standing(prefix=f"{PREFIX}-")
    standing = [stack for stack in everything if not resisting(stack)]
    held = {stack.name.removeprefix(f"{PREFIX}-") for stack in everything if resisting(stack)}
    left_behind = {name for name, _ in world.census.leaks()}
    nodes = list(world.nodes.all())
    return Leftovers(
        stacks=[f"{stack.name} {stack.status} {stack.fate}" for stack in standing],
        secrets=sorted({f"{node_id}-{number}" for node_id, number in world.secrets.passwords} - held),
        charged=[
            node.node_id
            for node in nodes
            if node.charged_to is not None and f"{node.node_id}-{node.generation}" not in held
        ],
        untold=sorted(left_behind - retained_told(world)),
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
