"""Launches and retires sixty real nodes on the local platform, each a process with its own address.

    python bench/embedded_fleet.py [--nodes 60] [--directory DIRECTORY]

Sixty data scientists request the nodes of sixty datasets at once, as artificienlib does, until each node is
ready and answers. Then half of them withdraw their models, so that their nodes have nothing to train, and the
owner of the datasets retires the other half's nodes. Processes, stacks, secrets and open ports are counted
before, at the peak and after. The exit status is 1 if anything is left.

All processes share the cores of this machine, so the times are those of sixty nodes that start at once.
"""

import argparse
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil

from local_platform import seeds
from local_platform.network import NODE_PORT, answers, direct_session
from local_platform.platform import Options, Platform
from orchestration.provisioning.orchestration_helper import GENERATION_TAG, NODE_TAG

POLL_INTERVAL = 1.0  # seconds between two calls of /create; the service accepts 120 a minute
DEADLINE = 600.0


@dataclass(frozen=True)
class Customer:
    """A data scientist with one purchased dataset and one model."""

    person: seeds.User
    dataset_id: str
    token: str

    @property
    def model_id(self) -> str:
        """The id that artificienlib gives the model."""
        return seeds.model_id(self.person.username)


@dataclass(frozen=True)
class Census:
    """Counts at one moment; memory in MB."""

    processes: int
    launches: int
    """How many times the existing nodes were launched."""
    stacks: int
    secrets: int
    ports: int
    memory: float

    @property
    def is_empty(self) -> bool:
        """Whether no node has left anything."""
        return not any((self.processes, self.stacks, self.secrets, self.ports))


def main() -> int:
    """Start the platform, launch and retire the nodes, and print the counts."""
    parser = argparse.ArgumentParser(description="Launches and retires nodes on the local platform.")
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--directory", type=Path, help="directory of the logs; by default a temporary one")
    options = parser.parse_args()
    number = options.nodes
    with (
        tempfile.TemporaryDirectory() as temporary,
        Platform(Options(options.directory or Path(temporary), port=0, aws_port=0)) as platform,
    ):
        customers = sign_up(platform, number)
        before = census(platform, ())
        started = time.monotonic()
        with ThreadPoolExecutor(number) as pool:
            nodes = list(pool.map(lambda customer: node_of(platform, customer), customers))
        peak = census(platform, [address for address, _ in nodes])
        all_up = time.monotonic() - started
        retire_all(platform, customers)
        gone, after = wait_until_gone(platform, [address for address, _ in nodes])
    print_all(before, peak, after)
    seconds = [waited for _, waited in nodes]
    print(f"/create to ready      median {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s")
    print(f"to all ready          {all_up:.1f} s")
    print(f"withdrawn to all gone {gone:.1f} s")
    return 0 if before.is_empty and after.is_empty and peak.processes == number else 1


def sign_up(platform: Platform, number: int) -> list[Customer]:
    """Create so many data scientists, each with a purchased dataset and a submitted model."""
    tables = platform.aws.resource("dynamodb")
    people = [
        seeds.User(f"scientist{n}", f"{platform.scientist.password}{n}", "data scientist")
        for n in range(number)
    ]
    seeds.add_users(platform.aws, platform.environment["USER_POOL_ID"], people)
    customers = [Customer(person, f"Dataset {person.username}", platform.token(person)) for person in people]
    for customer in customers:
        name, bought = customer.dataset_id, [customer.dataset_id]
        dataset = seeds.dataset_item(platform.developer) | {"dataset_id": name}
        tables.Table("dataset_table").put_item(Item=dataset)
        tables.Table("user_table").put_item(Item=seeds.user_item(customer.person, bought))
        tables.Table("model_table").put_item(
            Item=seeds.model_item(customer.person.username) | {"dataset": name}
        )
    return customers


def node_of(platform: Platform, customer: Customer) -> tuple[str, float]:
    """Call /create until the node is ready; return its address and the seconds it took."""
    started = time.monotonic()
    body = {
        "dataset_id": customer.dataset_id,
        "model_id": customer.model_id,
        "features": list(seeds.FEATURES),
        "labels": list(seeds.LABELS),
    }
    while time.monotonic() < started + DEADLINE:
        answer = post(platform, "/create", body, customer.token)
        if "nodeURL" in answer:
            assert answers(f"http://{answer['nodeURL']}:{NODE_PORT}/data-centric/identity/")
            return answer["nodeURL"], time.monotonic() - started
        assert "error" not in answer, answer
        time.sleep(POLL_INTERVAL)
    raise TimeoutError(f"{customer.dataset_id} has no node after {DEADLINE:.0f} s: {answer}")


def retire_all(platform: Platform, customers: list[Customer]) -> None:
    """Have all nodes retired: half by withdrawn models, half by the owner of the datasets."""
    token = platform.token(platform.developer)
    half = len(customers) // 2
    for customer in customers[:half]:
        post(platform, "/delete", {"model_id": customer.model_id}, customer.token)
    for customer in customers[half:]:
        post(platform, "/delete", {"dataset_id": customer.dataset_id, "force": True}, token)


def post(platform: Platform, route: str, body: dict[str, object], token: str) -> dict[str, str]:
    """Call the service with an access token."""
    with direct_session() as session:
        headers = {"Authorization": f"Bearer {token}"}
        answer = session.post(platform.url + route, json=body, headers=headers, timeout=60)
        return dict(answer.json())


def wait_until_gone(platform: Platform, addresses: list[str]) -> tuple[float, Census]:
    """Wait until nothing is left, or until the deadline; return the seconds and the last counts."""
    started = time.monotonic()
    while not (left := census(platform, addresses)).is_empty and time.monotonic() < started + DEADLINE:
        time.sleep(0.2)
    return time.monotonic() - started, left


def census(platform: Platform, addresses: Iterable[str]) -> Census:
    """Count what exists of nodes now."""
    processes = node_processes()
    pages = platform.aws.client("cloudformation").get_paginator("describe_stacks").paginate()
    stacks = [tags_of(stack) for page in pages for stack in page["Stacks"] if NODE_TAG in tags_of(stack)]
    secrets = platform.aws.client("secretsmanager").get_paginator("list_secrets").paginate()
    return Census(
        processes=len(processes),
        launches=sum(int(tags[GENERATION_TAG]) for tags in stacks),
        stacks=len(stacks),
        secrets=sum(NODE_TAG in tags_of(secret) for page in secrets for secret in page["SecretList"]),
        ports=sum(map(is_open, addresses)),
        memory=sum(processes) / 2**20,
    )


def node_processes() -> list[int]:
    """Return the memory in bytes of each node's process among our descendants."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[-2:] == ["-m", "pygrid_node"]:
                found.append(process.memory_info().rss)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def tags_of(described: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    """Return the tags of a stack or secret."""
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", ())}


def is_open(address: str) -> bool:
    """Return whether a program listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, NODE_PORT)) == 0


def print_all(before: Census, peak: Census, after: Census) -> None:
    """Print the counts side by side."""
    rows: list[tuple[str, Callable[[Census], object]]] = [
        ("node processes", lambda census: census.processes),
        ("their memory, MB", lambda census: round(census.memory)),
        ("stacks", lambda census: census.stacks),
        ("their launches", lambda census: census.launches),
        ("secrets", lambda census: census.secrets),
        ("open ports", lambda census: census.ports),
    ]
    print(f"{'':21} {'before':>8} {'at peak':>8} {'after':>8}")
    for name, figure in rows:
        print(f"{name:21} {figure(before):>8} {figure(peak):>8} {figure(after):>8}")


if __name__ == "__main__":
    sys.exit(main())
