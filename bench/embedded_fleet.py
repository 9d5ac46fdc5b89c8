"""Sixty nodes up and down for real: the service on an embedded AWS, each node a process with its own address.

    python bench/embedded_fleet.py [--nodes 60] [--directory DIRECTORY]

Sixty data scientists ask for a node of sixty datasets at once, as artificienlib does, until each has its
address and the node itself answers there. Then half of them withdraw their models, so that their nodes have
nothing to train, and the other half's nodes are retired by the owner. Processes, stacks, secrets and open
ports are counted before, at the peak and after; the status is 1 if anything is left.

All of it shares this machine's cores: the times are those of processes that start side by side.
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

PAUSE = 1.0  # seconds between two calls of /create; the service takes 120 a minute
PATIENCE = 600.0


@dataclass(frozen=True)
class Customer:
    """A data scientist with one dataset and one model."""

    person: seeds.User
    dataset_id: str
    token: str

    @property
    def model_id(self) -> str:
        """Name the model as artificienlib would."""
        return seeds.model_id(self.person.username)


@dataclass(frozen=True)
class Census:
    """What there is at some moment; memory in MB."""

    processes: int
    launches: int
    """How often the nodes that stand were launched."""
    stacks: int
    secrets: int
    ports: int
    memory: float

    @property
    def is_empty(self) -> bool:
        """Whether nothing of any node is there."""
        return not any((self.processes, self.stacks, self.secrets, self.ports))


def main() -> int:
    """Bring the platform up, the nodes up and down, and print what was counted."""
    parser = argparse.ArgumentParser(description="Nodes up and down on an embedded AWS.")
    parser.add_argument("--nodes", type=int, default=60)
    parser.add_argument("--directory", type=Path, help="where logs are kept; by default they go as well")
    options = parser.parse_args()
    number = options.nodes
    with (
        tempfile.TemporaryDirectory() as passing,
        Platform(Options(options.directory or Path(passing), port=0, aws_port=0)) as platform,
    ):
        customers = settle(platform, number)
        before = census(platform, ())
        began = time.monotonic()
        with ThreadPoolExecutor(number) as pool:
            nodes = list(pool.map(lambda customer: node_of(platform, customer), customers))
        peak = census(platform, [address for address, _ in nodes])
        all_up = time.monotonic() - began
        send_home(platform, customers)
        gone, after = wait_until_gone(platform, [address for address, _ in nodes])
    print_all(before, peak, after)
    seconds = [waited for _, waited in nodes]
    print(f"/create to ready      median {statistics.median(seconds):.1f} s, max {max(seconds):.1f} s")
    print(f"to all ready          {all_up:.1f} s")
    print(f"withdrawn to all gone {gone:.1f} s")
    return 0 if before.is_empty and after.is_empty and peak.processes == number else 1


def settle(platform: Platform, number: int) -> list[Customer]:
    """Let so many data scientists sign up, buy a dataset each, and submit a model."""
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
    """Ask for the node until it is ready; return its address, and the seconds that took."""
    began = time.monotonic()
    body = {
        "dataset_id": customer.dataset_id,
        "model_id": customer.model_id,
        "features": list(seeds.FEATURES),
        "labels": list(seeds.LABELS),
    }
    while time.monotonic() < began + PATIENCE:
        told = post(platform, "/create", body, customer.token)
        if "nodeURL" in told:
            assert answers(f"http://{told['nodeURL']}:{NODE_PORT}/data-centric/identity/")
            return told["nodeURL"], time.monotonic() - began
        assert "error" not in told, told
        time.sleep(PAUSE)
    raise TimeoutError(f"{customer.dataset_id} has no node after {PATIENCE:.0f} s: {told}")


def send_home(platform: Platform, customers: list[Customer]) -> None:
    """End it for everybody: half by their models' owners, half by the owner of the datasets."""
    token = platform.token(platform.developer)
    half = len(customers) // 2
    for customer in customers[:half]:
        post(platform, "/delete", {"model_id": customer.model_id}, customer.token)
    for customer in customers[half:]:
        post(platform, "/delete", {"dataset_id": customer.dataset_id, "force": True}, token)


def post(platform: Platform, route: str, body: dict[str, object], token: str) -> dict[str, str]:
    """Call the service as somebody."""
    with direct_session() as session:
        headers = {"Authorization": f"Bearer {token}"}
        answer = session.post(platform.url + route, json=body, headers=headers, timeout=60)
        told: dict[str, str] = answer.json()
        return told


def wait_until_gone(platform: Platform, addresses: list[str]) -> tuple[float, Census]:
    """Look until nothing is left, or patience is over."""
    began = time.monotonic()
    while not (left := census(platform, addresses)).is_empty and time.monotonic() < began + PATIENCE:
        time.sleep(0.2)
    return time.monotonic() - began, left


def census(platform: Platform, addresses: Iterable[str]) -> Census:
    """Count what there is of nodes now."""
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
    """Return the memory (bytes) of each node's process among our descendants."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[-2:] == ["-m", "pygrid_node"]:
                found.append(process.memory_info().rss)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def tags_of(described: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    """Return its tags."""
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", ())}


def is_open(address: str) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, NODE_PORT)) == 0


def print_all(before: Census, peak: Census, after: Census) -> None:
    """Print what was counted, side by side."""
    rows: list[tuple[str, Callable[[Census], object]]] = [
        ("node processes", lambda census: census.processes),
        ("their memory, MB", lambda census: round(census.memory)),
        ("stacks", lambda census: census.stacks),
        ("of so many launches", lambda census: census.launches),
        ("secrets", lambda census: census.secrets),
        ("open ports", lambda census: census.ports),
    ]
    print(f"{'':21} {'before':>8} {'at peak':>8} {'after':>8}")
    for name, figure in rows:
        print(f"{name:21} {figure(before):>8} {figure(peak):>8} {figure(after):>8}")


if __name__ == "__main__":
    sys.exit(main())
