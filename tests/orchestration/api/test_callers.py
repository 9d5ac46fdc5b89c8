"""Every route with every kind of caller: the status of each combination, and no change if it is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestration.domain.credentials import StoredKey, hash_of, new_key
from orchestration.domain.node import NodeStatus, node_id_of
from tests import processes
from tests.builders import DATASET, DEVELOPER, MODEL, STRANGER, a_dataset, a_developer, a_model, a_user
from tests.fakes import World
from tests.processes import LINKS, PUBLIC_URL
from tests.web import basic, bearer, services_on

STEPS = "Steps"
"""Another developer's dataset, with a node of its own."""
OTTO = "otto"
TRAINED = "trained-1-ada"
NODE = node_id_of(DATASET)


class Scene:
    """A world with two datasets and their nodes, and the credentials of all callers."""

    def __init__(self, world: World) -> None:
        """Create two datasets with a node and a training model each, and one trained model."""
        self.world = world
        self.keys: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        world.put(a_dataset(dataset_id=STEPS, owner=OTTO))
        world.put(a_developer(user_id="otto@example.org", username=OTTO, legacy_api_key=None))
        world.put(a_user(user_id="mallory@x.org", username=STRANGER.username, purchased=frozenset()))
        world.put(a_model())
        world.put(a_model(model_id="steps-1-ada", dataset_id=STEPS))
        world.put(a_model(model_id=TRAINED, is_active=False, percent_complete=100, download_key="k1"))
        for dataset_id in (DATASET, STEPS):
            self.launch(dataset_id)
        for owner in (DEVELOPER.username, OTTO):
            self.keys[owner] = new_key()
            world.keys.put(StoredKey(hash_of(self.keys[owner]), owner, created_at=world.clock()))

    def launch(self, dataset_id: str) -> None:
        """Launch the node of a dataset."""
        node = self.world.nodes.request(dataset_id, self.world.clock(), "ada")
        processes.reconcile(self.world, passes=4)
        generation = self.world.nodes.get(node.node_id).generation
        assert self.world.nodes.get(node.node_id).status is NodeStatus.READY
        self.secrets[dataset_id] = self.world.secrets.passwords[node.node_id, generation]

    def retire(self) -> None:
        """Retire the node of the first dataset."""
        self.world.nodes.let_go(self.world.nodes.get(NODE))
        processes.reconcile(self.world, passes=8)
        assert self.world.nodes.get(NODE).status is NodeStatus.ABSENT


GARBAGE = {"Authorization": "Bearer garbage", "api_key": "garbage"}


def retired(scene: Scene) -> dict[str, str]:
    credential = basic(NODE, scene.secrets[DATASET])
    scene.retire()
    return credential


def former(scene: Scene) -> dict[str, str]:
    credential = retired(scene)
    scene.launch(DATASET)
    return credential


def token_of(username: str) -> str:
    return bearer(username)["Authorization"].removeprefix("Bearer ")


CALLERS: dict[str, Callable[[Scene], dict[str, str]]] = {
    "anonymous": lambda _: {},
    "garbage": lambda _: GARBAGE,
    "another user": lambda _: bearer(STRANGER.username),
    "the owner": lambda _: bearer("ada"),
    "the developer": lambda _: bearer(DEVELOPER.username),
    "a device": lambda scene: {"api_key": scene.keys[DEVELOPER.username]},
    "another's device": lambda scene: {"api_key": scene.keys[OTTO]},
    "the node": lambda scene: basic(NODE, scene.secrets[DATASET]),
    "another node": lambda scene: basic(node_id_of(STEPS), scene.secrets[STEPS]),
    "a retired node": retired,
    "a former generation": former,
}
"""The headers of each caller. The last is a running node with the credential of its former generation."""

MISPLACED: dict[str, Callable[[Scene], dict[str, str]]] = {
    "a token as a key": lambda _: {"api_key": token_of(DEVELOPER.username)},
    "a token as a node": lambda _: basic(NODE, token_of("ada")),
    "a key as a token": lambda scene: {"Authorization": f"Bearer {scene.keys[DEVELOPER.username]}"},
    "a key as a node": lambda scene: basic(NODE, scene.keys[DEVELOPER.username]),
    "a node as a user": lambda scene: {"Authorization": f"Bearer {scene.secrets[DATASET]}"},
    "a node as a device": lambda scene: {"api_key": scene.secrets[DATASET]},
    "a link as a token": lambda _: {"Authorization": f"Bearer {LINKS.link(TRAINED, 'k1')}"},
    "a hash as a key": lambda scene: {"api_key": hash_of(scene.keys[DEVELOPER.username])},
    "a hash as a node": lambda scene: basic(NODE, hash_of(scene.secrets[DATASET])),
}
"""Valid credentials presented as another kind, and stored hashes presented as credentials."""

USERS = {"another user": STRANGER.username, "the owner": "ada", "the developer": DEVELOPER.username}
FORGED = LINKS.link(MODEL, "k1").replace(MODEL, TRAINED)
UPLOAD = {"model_id": MODEL, "version": "1", "address": "127.0.0.1"}
CREATE = {"dataset_id": DATASET, "model_id": MODEL, "features": ["age", "bmi"], "labels": ["progression"]}


def own_row(caller: str) -> dict[str, str]:
    """Return a body with the caller's own user id; for callers who aren't users, the developer's."""
    return {"user_id": USERS.get(caller, DEVELOPER.username)}


def anothers_row(_: str) -> dict[str, str]:
    return {"user_id": OTTO}


ROUTES: dict[str, tuple[str, str, Callable[[str], dict] | dict | None]] = {
    "GET /": ("GET", "/", None),
    "POST /create": ("POST", "/create", CREATE),
    "POST /delete, a model": ("POST", "/delete", {"model_id": MODEL}),
    "POST /delete, a node": ("POST", "/delete", {"dataset_id": DATASET, "force": True}),
    "POST /info": ("POST", "/info", {"dataset_id": DATASET}),
    "POST /model_loss": ("POST", "/model_loss", {"model_id": MODEL, "loss": 0.5, "acc": -1}),
    "POST /model_loss, key required": ("POST", "/model_loss", {"model_id": MODEL, "loss": 0.5, "acc": -1}),
    "POST /model_progress": ("POST", "/model_progress", {"model_id": MODEL, "percent_complete": 10}),
    "POST /model_upload": ("POST", "/model_upload", UPLOAD),
    "POST /generate_key, own": ("POST", "/generate_key", own_row),
    "POST /generate_key, another's": ("POST", "/generate_key", anothers_row),
    "POST /get_datasets, own": ("POST", "/get_datasets", own_row),
    "POST /get_datasets, another's": ("POST", "/get_datasets", anothers_row),
    "GET /download": ("GET", LINKS.link(TRAINED, "k1").removeprefix(PUBLIC_URL), None),
    "GET /download, forged": ("GET", FORGED.removeprefix(PUBLIC_URL), None),
    "POST /rotate_link": ("POST", "/rotate_link", {"model_id": TRAINED}),
}
"""Method, path and body of each request; some bodies depend on the caller."""


def table(columns: tuple[str, ...], rows: dict[str, tuple[int, ...]]) -> dict[str, dict[str, int]]:
    """Return route to caller to status."""
    return {route: dict(zip(columns, statuses, strict=True)) for route, statuses in rows.items()}


# fmt: off
EXPECTED = table(
    ("anonymous", "garbage",
     "another user", "the owner", "the developer",
     "a device", "another's device",
     "the node", "another node", "a retired node", "a former generation"), {
    #                                 ano- gar- other the  the   a   another's the another re-  former
    #                                 nym. bage user owner dev. device device  node node tired  gen.
    "GET /":                          (200, 200, 200, 200, 200,  200, 200,  200, 200, 200, 200),
    "POST /create":                   (401, 401, 403, 200, 403,  401, 401,  401, 401, 401, 401),
    "POST /delete, a model":          (401, 401, 403, 200, 403,  401, 401,  401, 401, 401, 401),
    "POST /delete, a node":           (401, 401, 403, 403, 202,  401, 401,  401, 401, 401, 401),
    "POST /info":                     (401, 401, 401, 401, 401,  200, 401,  401, 401, 401, 401),
    "POST /model_loss":               (200, 200, 200, 200, 200,  200, 200,  200, 200, 200, 200),
    "POST /model_loss, key required": (401, 401, 401, 401, 401,  200, 401,  401, 401, 401, 401),
    "POST /model_progress":           (401, 401, 401, 401, 401,  401, 401,  200, 403, 401, 401),
    "POST /model_upload":             (401, 401, 401, 401, 401,  401, 401,  200, 403, 401, 401),
    "POST /generate_key, own":        (401, 401, 200, 200, 200,  401, 401,  401, 401, 401, 401),
    "POST /generate_key, another's":  (401, 401, 403, 403, 403,  401, 401,  401, 401, 401, 401),
    "POST /get_datasets, own":        (401, 401, 200, 200, 200,  401, 401,  401, 401, 401, 401),
    "POST /get_datasets, another's":  (401, 401, 403, 403, 403,  401, 401,  401, 401, 401, 401),
    "GET /download":                  (302, 302, 302, 302, 302,  302, 302,  302, 302, 302, 302),
    "GET /download, forged":          (404, 404, 404, 404, 404,  404, 404,  404, 404, 404, 404),
    "POST /rotate_link":              (401, 401, 403, 200, 403,  401, 401,  401, 401, 401, 401),
})
EXPECTED_MISPLACED = table(
    ("a token as a key", "a token as a node",
     "a key as a token", "a key as a node",
     "a node as a user", "a node as a device", "a link as a token",
     "a hash as a key", "a hash as a node"), {
    #                                 a token as a key as  the node as  a link a hash as
    #                                 key  node token node user device token  key  node
    "GET /":                          (200, 200, 200, 200, 200, 200, 200, 200, 200),
    "POST /create":                   (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /delete, a model":          (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /delete, a node":           (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /info":                     (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /model_loss":               (200, 200, 200, 200, 200, 200, 200, 200, 200),
    "POST /model_loss, key required": (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /model_progress":           (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /model_upload":             (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /generate_key, own":        (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /generate_key, another's":  (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /get_datasets, own":        (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "POST /get_datasets, another's":  (401, 401, 401, 401, 401, 401, 401, 401, 401),
    "GET /download":                  (302, 302, 302, 302, 302, 302, 302, 302, 302),
    "GET /download, forged":          (404, 404, 404, 404, 404, 404, 404, 404, 404),
    "POST /rotate_link":              (401, 401, 401, 401, 401, 401, 401, 401, 401),
})
# fmt: on


def cells(expected: dict[str, dict[str, int]]) -> list:
    """Return route, caller and status of every cell of a table."""
    return [
        pytest.param(route, caller, status, id=f"{route} by {caller}")
        for route, row in expected.items()
        for caller, status in row.items()
    ]


@pytest.fixture
def scene(world) -> Scene:
    return Scene(world)


@pytest.fixture
def send(shared_app, scene):
    """Send the request of a route with some headers."""
    services = services_on(scene.world)
    strict = replace(services, devices=processes.a_device_service(scene.world, key_required=True))

    def sender(route: str, caller: str, headers: dict[str, str]):
        (strict if route.endswith("key required") else services).bind(shared_app)
        client = shared_app.test_client()
        method, path, body = ROUTES[route]
        json = body(caller) if callable(body) else body
        return client.open(path, method=method, json=json, headers=headers)

    return sender


@pytest.mark.parametrize(("route", "caller", "status"), cells(EXPECTED))
def test_each_caller_gets_the_expected_status(scene, send, route, caller, status):
    """A refused request returns a JSON error and changes nothing."""
    headers = CALLERS[caller](scene)
    before = scene.world.snapshot()
    answer = send(route, caller, headers)

    assert answer.status_code == status
    assert_refusal_changed_nothing(answer, before, scene)


@pytest.mark.parametrize(("route", "credential", "status"), cells(EXPECTED_MISPLACED))
def test_misplaced_credential_is_refused(scene, send, route, credential, status):
    """Each credential is valid only where its kind is expected."""
    headers = MISPLACED[credential](scene)
    before = scene.world.snapshot()
    answer = send(route, credential, headers)

    assert answer.status_code == status
    assert_refusal_changed_nothing(answer, before, scene)


def assert_refusal_changed_nothing(answer, before, scene) -> None:
    if answer.status_code < 400:
        return
    assert answer.content_type == "application/json"
    assert answer.json.keys() == {"error"}
    assert answer.json["error"].endswith(".")
    assert scene.world.snapshot() == before


def test_tables_contain_all_routes_and_callers(shared_app):
    """A new route must be added to the tables."""
    adapter = shared_app.url_map.bind("orchestration.test")
    sent = {
        (method, adapter.match(path.partition("?")[0], method, return_rule=True)[0].rule)
        for method, path, _ in ROUTES.values()
    }
    declared = {
        (method, rule.rule)
        for rule in shared_app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert sent == declared
    assert EXPECTED.keys() == EXPECTED_MISPLACED.keys() == ROUTES.keys()
    assert all(row.keys() == CALLERS.keys() for row in EXPECTED.values())
    assert all(row.keys() == MISPLACED.keys() for row in EXPECTED_MISPLACED.values())


@pytest.mark.parametrize(
    ("route", "caller"),
    {
        "POST /create": "the owner",
        "POST /delete, a model": "the owner",
        "POST /delete, a node": "the developer",
        "POST /info": "a device",
        "POST /model_loss": "anonymous",
        "POST /model_progress": "the node",
        "POST /generate_key, own": "the developer",
        "POST /rotate_link": "the owner",
    }.items(),
)
def test_accepted_request_changes_the_snapshot(scene, send, route, caller):
    """Otherwise an unchanged snapshot would prove nothing about refused requests."""
    headers = CALLERS[caller](scene)
    before = scene.world.snapshot()
    answer = send(route, caller, headers)

    assert answer.status_code < 300
    assert scene.world.snapshot() != before
