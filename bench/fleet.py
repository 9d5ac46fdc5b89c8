"""A simulated day of a marketplace: 1,000 datasets' nodes go up and down, a tenth of the launches fail.

    python bench/fleet.py [--datasets 1000] [--hours 24] [--failing 0.1] [--reconcilers 3] [--seed 0]

The service is the real one, with the settings it has by default: its web processes and its reconcilers, down
to the calls to AWS. Below that are the tests' fakes of CloudFormation and ECS, on one clock: stale answers,
calls that take their time, throttling for all replicas together, and every way in which a launch, a node or a
deletion can fail. `tests/fleet/` says who does what all day.

Ends with status 1 if a stack, a secret or a place in the quota is left when all is over, if two stacks of a
node lived at once, or if a trained model was lost.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from tests.fleet import Day, Plan  # noqa: E402 - found by the line above


def main() -> int:
    """Play the day, and print what it came to."""
    began = time.perf_counter()
    figures = Day(plan()).play()
    for name, value in figures.rows():
        print(f"{name:32} {value}")
    print(f"{'this run took':32} {time.perf_counter() - began:.0f} s")
    return 1 if figures.left else 0


def plan() -> Plan:
    """Read the options."""
    usual = Plan()
    parser = argparse.ArgumentParser(description="A simulated day of a fleet of nodes.")
    parser.add_argument("--datasets", type=int, default=usual.datasets)
    parser.add_argument("--hours", type=float, default=usual.hours)
    parser.add_argument("--failing", type=float, default=usual.failing, help="share of launches, 0 to 1")
    parser.add_argument(
        "--hopeless", type=float, default=usual.hopeless, help="share of those whose stack nothing deletes"
    )
    parser.add_argument("--reconcilers", type=int, default=usual.reconcilers)
    parser.add_argument("--seed", type=int, default=usual.seed)
    return Plan(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
