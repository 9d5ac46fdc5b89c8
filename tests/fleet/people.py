"""Who calls the service all day: data scientists and their nodes, owners of datasets, devices."""

import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from orchestration.domain.cycle import Progress
from orchestration.domain.entities import Caller, Model
from orchestration.domain.errors import Conflict, NodeFailed, QuotaExceeded, Upstream
from orchestration.domain.node import Node, NodeStatus, Wish, node_id_of
from orchestration.domain.progress import TrainingService
from orchestration.requests.devices import CatalogueService
from orchestration.requests.nodes import NodeService
from tests.builders import DEVELOPER, LEGACY_KEY, a_submission
from tests.cloud import Cloud
from tests.fleet.stage import Stage
from tests.processes import a_request

ASKING = 30.0
"""Seconds between two calls of artificienlib while it waits for a node."""
HOUR = 3600.0
TRAINING, PAUSE = 4.0 * HOUR, 13.0 * HOUR
"""Mean seconds a model trains, and its scientist does something else: with these, 23 % of nodes are awake.

Where several models are on one node, it is awake for all of them at once.
"""
CYCLE = 600.0
MOST_CYCLES = 90
WITHDRAWN = 0.05
"""Share of models that their owner takes back in the middle."""
PATIENCE = 4
"""How often somebody who is told `error` comes back before the model is withdrawn."""


@dataclass(slots=True)
class Waits:
    """What became of those who asked for a node: seconds from the first call to the address."""

    at_once: int = 0
    """A node was up already."""
    well: list[float] = field(default_factory=list)
    """The first launch succeeded."""
    badly: list[float] = field(default_factory=list)
    """One or more launches failed first."""
    told_error: int = 0
    told_quota: int = 0
    told_upstream: int = 0
    gave_up: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where all of it happens: the world as it is, and the web processes' services in it."""

    stage: Stage
    world: Cloud
    nodes: NodeService
    training: TrainingService
    catalogue: CatalogueService
    datasets: Sequence[str]
    waits: Waits
    ends: float
    """When the people go home; nobody asks for anything after that."""

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self.stage.clock()

    def is_open(self) -> bool:
        """Whether the day isn't over."""
        return self.now() < self.ends

    def node(self, dataset_id: str) -> Node | None:
        """Look at the record; no call is counted."""
        return self.world.nodes.get(node_id_of(dataset_id))

    def serves(self, node: Node | None) -> bool:
        """Whether the node truly answers."""
        address = node.address if node is not None else None
        return address is not None and self.world.cloudformation.serves(address, node.node_id)


class Scientist:
    """Has one model after the other trained, each on a dataset drawn at random."""

    def __init__(self, name: str, place: Place, rng: random.Random) -> None:
        self._caller = Caller(name)
        self._place = place
        self._rng = rng
        self._submitted = 0

    def live(self) -> None:
        """Until the day is over. Some are at it already when it begins: the rush of the morning."""
        if self._rng.random() < TRAINING / (TRAINING + PAUSE):
            self._place.stage.sleep(self._rng.uniform(0, 900))
        else:
            self._place.stage.sleep(self._rng.expovariate(1 / PAUSE))
        while self._place.is_open():
            self._have_trained(self._submit())
            self._place.stage.sleep(self._rng.expovariate(1 / PAUSE))

    def _submit(self) -> Model:
        self._submitted += 1
        model = a_submission(
            model_id=f"model-{self._submitted}-{self._caller.username}",
            owner=self._caller.username,
            dataset_id=self._rng.choice(self._place.datasets),
        )
        self._place.world.put(model)
        return model

    def _have_trained(self, model: Model) -> None:
        seconds = self._rng.expovariate(1 / TRAINING)
        cycles = min(max(1, round(seconds / CYCLE)), MOST_CYCLES)
        last = self._rng.randrange(cycles) if self._rng.random() < WITHDRAWN else cycles
        if not self._wait_for_node(model):
            self._withdraw(model)
            return
        closed = 0
        while closed < last and self._place.is_open():
            self._place.stage.sleep(seconds / cycles)
            node = self._place.node(model.dataset_id)
            if node is not None and self._place.serves(node):
                closed += 1
                self._place.training.record_progress(model.model_id, _progress(closed, cycles), node=node)
            elif (node is None or node.wish is Wish.DOWN) and not self._wait_for_node(model):
                break
        if closed < cycles:
            self._withdraw(model)

    def _withdraw(self, model: Model) -> None:
        self._place.nodes.withdraw(model.model_id, caller=self._caller)

    def _wait_for_node(self, model: Model) -> bool:
        """Ask as artificienlib does; whoever is told why not comes back later, so many times."""
        for _ in range(PATIENCE):
            if self._is_ready_at_last(model):
                return True
            if not self._place.is_open():
                return False
            self._place.stage.sleep(self._rng.uniform(700, HOUR))
        self._place.waits.gave_up += 1
        return False

    def _is_ready_at_last(self, model: Model) -> bool:
        place, began = self._place, self._place.now()
        first = _first_generation(place.node(model.dataset_id))
        request = a_request(dataset_id=model.dataset_id, model_id=model.model_id)
        while place.is_open():
            try:
                if place.nodes.request(request, caller=self._caller).is_ready:
                    self._note(place.now() - began, first, place.node(model.dataset_id))
                    return True
            except NodeFailed:
                place.waits.told_error += 1
                return False
            except QuotaExceeded:
                place.waits.told_quota += 1
                return False
            except Upstream:
                place.waits.told_upstream += 1
            place.stage.sleep(ASKING)
        return False

    def _note(self, seconds: float, first: int, node: Node | None) -> None:
        waits = self._place.waits
        if seconds < ASKING / 2:
            waits.at_once += 1
        elif node is not None and node.generation > first:
            waits.badly.append(seconds)
        else:
            waits.well.append(seconds)


def _first_generation(node: Node | None) -> int:
    """Return the generation that serves whoever asks now, if all goes well."""
    if node is None:
        return 1
    is_up = node.wish is Wish.UP and node.status in (NodeStatus.DEPLOYING, NodeStatus.READY)
    return node.generation if is_up else node.generation + 1


def _progress(closed: int, cycles: int) -> Progress:
    return Progress(100 * closed // cycles, cycle=closed)


@dataclass(frozen=True, slots=True)
class Owners:
    """Retire nodes of their datasets; every second one insists."""

    place: Place
    rng: random.Random
    every: float
    """Mean seconds between two of them."""

    def live(self) -> None:
        """Until the day is over."""
        while self.place.is_open():
            self.place.stage.sleep(self.rng.expovariate(1 / self.every))
            awake = [node for node in self.place.world.nodes.all() if node.wish is Wish.UP]
            if awake:
                with suppress(Conflict):
                    chosen = self.rng.choice(awake).dataset_id
                    self.place.nodes.retire(chosen, caller=DEVELOPER, force=self.rng.random() < 0.5)


@dataclass(frozen=True, slots=True)
class Devices:
    """Ask what there is to train, with the key of their app."""

    place: Place
    rng: random.Random
    every: float
    """Mean seconds between two of them."""

    def live(self) -> None:
        """Until the day is over."""
        while self.place.is_open():
            self.place.stage.sleep(self.rng.expovariate(1 / self.every))
            self.place.catalogue.work(self.rng.choice(self.place.datasets), api_key=LEGACY_KEY)
