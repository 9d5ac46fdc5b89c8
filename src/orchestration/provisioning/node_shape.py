"""Image, size, capacity provider and minimum of reports of node stacks."""

from collections.abc import Mapping
from dataclasses import dataclass

ON_DEMAND, SPOT = "FARGATE", "FARGATE_SPOT"
"""Fargate's capacity providers."""

SIZES: Mapping[int, tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4096 + 1, 1024)),
    1024: tuple(range(2048, 8192 + 1, 1024)),
    2048: tuple(range(4096, 16384 + 1, 1024)),
    4096: tuple(range(8192, 30720 + 1, 1024)),
}
"""Maps CPU units (1024 are one CPU) to the memory sizes in MiB that Fargate allows, by its documentation.

Larger sizes are left out: a node averages in one process.
"""
MEMORIES = tuple(sorted({memory for memories in SIZES.values() for memory in memories}))


@dataclass(frozen=True, slots=True)
class NodeShape:
    """Configuration of new nodes; running nodes keep theirs. `cpu` and `memory` are as in `SIZES`."""

    image: str
    cpu: int = 512
    memory: int = 2048
    spot: bool = False
    """Use Spot capacity: a third of the price, may be unavailable or interrupted at two minutes' notice."""
    read_only: bool = True
    """Mount the root file system read-only. Our node allows it; the original image doesn't."""
    min_reports: int = 10
    """End no cycle with fewer reports. Our node does so; the original image ignores it."""

    def parameters(self, attempt: int = 1) -> dict[str, str]:
        """Return the shape as parameters of the node template.

        Only the first attempt uses Spot, so that the next one can't fail for lack of Spot capacity.
        """
        return {
            "NodeImage": self.image,
            "NodeCpu": str(self.cpu),
            "NodeMemory": str(self.memory),
            "NodeReadOnly": str(self.read_only).lower(),
            "NodeMinReports": str(self.min_reports),
            "CapacityProvider": SPOT if self.spot and attempt <= 1 else ON_DEMAND,
        }


def default_node_image(service_image: str) -> str:
    """Return the image that the deploy workflow pushes: tag `node` in the repository of the service."""
    path, slash, name = service_image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}:node"
