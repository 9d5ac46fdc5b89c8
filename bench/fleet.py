"""A simulated day: the nodes of 1,000 datasets are launched and retired, and a tenth of their stacks fail.

    python bench/fleet.py [--datasets 1000] [--hours 24] [--failing 0.1] [--reconcilers 3] [--seed 0]

The service is the real one with its default settings: web processes and reconcilers, down to the calls to
AWS. Below are the tests' fakes of CloudFormation and ECS on one simulated clock, with stale answers, latency,
throttling that all replicas share, and every way in which a launch, a node or a deletion can fail.
`tests/fleet/` simulates the callers.

The exit status is 1 if a stack, a secret or the use of a quota is left at the end, if two stacks of a node
existed side by side, or if a trained model was lost.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from tests.fleet import Day, Plan  # noqa: E402 - found by the line above


def main() -> int:
    """Run the day and print its figures."""
    started = time.perf_counter()
    figures = Day(plan()).run()
    for name, value in figures.rows():
        print(f"{name:32} {value}")
    print(f"{'this run took':32} {time.perf_counter() - started:.0f} s")
    return 1 if figures.left else 0


def plan() -> Plan:
    """Return the plan that the options describe."""
    default = Plan()
    parser = argparse.ArgumentParser(description="A simulated day of many nodes.")
    parser.add_argument("--datasets", type=int, default=default.datasets)
    parser.add_argument("--hours", type=float, default=default.hours)
    parser.add_argument(
        "--failing", type=float, default=default.failing, help="share of stacks with a fault, 0 to 1"
    )
    parser.add_argument(
        "--undeletable", type=float, default=default.undeletable, help="share of those that can't be deleted"
    )
    parser.add_argument("--reconcilers", type=int, default=default.reconcilers)
    parser.add_argument("--seed", type=int, default=default.seed)
    return Plan(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
