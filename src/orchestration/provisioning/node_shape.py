"""What node stacks are made of beside the node's name: image, size and kind of capacity."""

from collections.abc import Mapping
from dataclasses import dataclass

ON_DEMAND, SPOT = "FARGATE", "FARGATE_SPOT"
"""The capacity providers that every cluster may have, by their names."""

SIZES: Mapping[int, tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4096 + 1, 1024)),
    1024: tuple(range(2048, 8192 + 1, 1024)),
    2048: tuple(range(4096, 16384 + 1, 1024)),
    4096: tuple(range(8192, 30720 + 1, 1024)),
}
"""CPU, in 1/1024 of one, to the memory in MiB that Fargate gives with it, by its documentation of task sizes.

The sizes beyond are left out: a node averages in one process.
"""
MEMORIES = tuple(sorted({memory for memories in SIZES.values() for memory in memories}))


@dataclass(frozen=True, slots=True)
class NodeShape:
    """How new nodes are; those that are up stay as they are. `cpu` and `memory` as in `SIZES`."""

    image: str
    cpu: int = 512
    memory: int = 2048
    spot: bool = False
    """Take capacity that costs a third, and may be taken away at two minutes' notice, or not be there."""
    read_only: bool = True
    """Nothing can be written to the task's files. Our node needs none; the original image does."""

    def parameters(self, attempt: int = 1) -> dict[str, str]:
        """Return it as parameters of the node's template.

        Only a first attempt asks for Spot: the next one must not fail for want of it.
        """
        return {
            "NodeImage": self.image,
            "NodeCpu": str(self.cpu),
            "NodeMemory": str(self.memory),
            "NodeReadOnly": str(self.read_only).lower(),
            "CapacityProvider": SPOT if self.spot and attempt <= 1 else ON_DEMAND,
        }


def usual_node_image(service_image: str) -> str:
    """Return where the deploy workflow pushes our node: tag `node` in the repository of the service."""
    path, slash, name = service_image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}:node"
