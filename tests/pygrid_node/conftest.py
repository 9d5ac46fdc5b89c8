"""A node on a real socket, a fake orchestrator, and clients that send the recorded messages."""

import asyncio
import base64
import copy
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest
import requests
from sqlalchemy import make_url

from orchestration.adapters.node_databases import SharedCluster
from orchestration.domain import node as orchestration
from pygrid_node.backoff import Backoff
from pygrid_node.server import Node
from pygrid_node.settings import Settings
from tests import postgresql
from tests.postgresql import Administrator

DATA = Path(__file__).parents[1] / "data" / "pygrid"
CREDENTIAL = ("us@er", "p/w")
SPEEDS = {"ping": 8.5, "download": 46751.25, "upload": 12345.5}


class FakeOrchestrator:
    """Accepts progress; `statuses` are the answers to the next messages, then 200.

    `allowed` returns the status for a question about an upload.
    """

    def __init__(self):
        self.statuses = []
        self.calls = []
        self.headers = []
        self.questions = []
        self.allowed = lambda _question: 200
        orchestrator = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                request = dict(self.headers) | {"path": self.path}
                if self.path.endswith("/model_upload"):
                    orchestrator.questions.append((body, request))
                    self.answer(orchestrator.allowed(body))
                    return
                status = orchestrator.statuses.pop(0) if orchestrator.statuses else 200
                if callable(status):
                    status = status(body)
                orchestrator.headers.append(request)
                self.answer(status)
                if status == 200:
                    orchestrator.calls.append(body)

            def answer(self, status):
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def location(self):
        return f"us%40er:p%2Fw@127.0.0.1:{self.server.server_port}/hooks"

    def close(self):
        if self.thread.is_alive():
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()


class Client:
    """Sends what a browser, a phone and a data scientist send."""

    def __init__(self, address):
        self.address = address

    def http(self, method, path, **options):
        return requests.request(method, f"http://{self.address}{path}", timeout=20, **options)

    def frames(self, *frames, headers=None):
        """Send frames over one connection; return the answers."""
        return asyncio.run(self._frames(frames, headers))

    async def _frames(self, frames, headers):
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.ws_connect(f"ws://{self.address}/", max_msg_size=0) as socket,
        ):
            answers = []
            for frame in frames:
                await socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))
                answers.append(await socket.receive_json(timeout=20))
            return answers

    def ask(self, kind, data, *, over="http"):
        """Send a message over either transport; return the data of its answer."""
        if over == "http":
            return self.http("POST", f"/model-centric/{kind}", data=json.dumps(data)).json()
        return self.frames({"type": f"model-centric/{kind}", "data": data})[0]["data"]

    def upload(self, frame, address=None):
        """Upload a model, through a proxy that has seen the request come from an address if one is given."""
        headers = {"X-Forwarded-For": address} if address else None
        return self.frames(frame, headers=headers)[0]["data"]

    def worker(self, name, over="http", **speeds):
        return Worker(self, name, speeds or SPEEDS, over)

    def checkpoint(self, name, number="latest"):
        query = {"name": name, "version": "0.1", "checkpoint": number}
        return self.retrieve(params=query)

    def retrieve(self, method="GET", **options):
        """Send the request of the orchestrator, with the credential of the fake one."""
        return self.http(method, "/model-centric/retrieve-model", auth=CREDENTIAL, **options)


class Worker:
    """A worker that has authenticated and requested a cycle."""

    def __init__(self, client, name, speeds, over):
        self.client = client
        self.over = over
        token = {"auth_token": None, "model_name": name, "model_version": "0.1"}
        self.authenticated = client.ask("authenticate", token, over=over)
        self.id = self.authenticated["worker_id"]
        self.request = {"worker_id": self.id, "model": name, "version": "0.1", **speeds}
        self.accepted = self.ask_again()

    def ask_again(self):
        return self.client.ask("cycle-request", self.request, over=self.over)

    @property
    def proof(self):
        return {"worker_id": self.id, "request_key": self.accepted["request_key"]}

    def report(self, diff):
        encoded = diff if isinstance(diff, str) else base64.b64encode(diff).decode()
        return self.client.ask("report", {**self.proof, "diff": encoded}, over=self.over)


class RunningNode(Client):
    """A node in this process, on an event loop of its own."""

    def __init__(self, directory, orchestrator, **settings):
        usual = {
            "node_id": "fixture-node",
            "database_url": f"sqlite:///{directory}/",
            "master_node_url": orchestrator.location,
            "bind_host": "127.0.0.1",
            "port": 0,
        }
        self.settings = Settings(**usual | settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.node = Node(self.settings, Backoff(first=0.02, longest=0.1))
        super().__init__(f"127.0.0.1:{self.run(self.node.start())}")

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=20)

    def close(self):
        if self._loop.is_closed():
            return
        self.run(self.node.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def orchestrator_of_module():
    """A fake orchestrator for a node of module scope."""
    orchestrator = FakeOrchestrator()
    yield orchestrator
    orchestrator.close()


@pytest.fixture
def orchestrator():
    """A fake orchestrator."""
    orchestrator = FakeOrchestrator()
    yield orchestrator
    orchestrator.close()


@pytest.fixture
def start_node(tmp_path, orchestrator):
    """Start nodes on one database, and stop them at the end."""
    running = []

    def start(**settings):
        running.append(RunningNode(tmp_path / "database", orchestrator, **settings))
        return running[-1]

    yield start
    for node in running:
        node.close()


@pytest.fixture
def node(start_node):
    """A running node with a new database."""
    return start_node()


@pytest.fixture(scope="session")
def client_of():
    """A client of a node at an address."""
    return Client


@pytest.fixture(scope="session")
def running_node():
    """Start a node; the caller closes it."""
    return RunningNode


@pytest.fixture(scope="session")
def recorded():
    """Return the recorded upload of a process, with changes to fields of its data by path."""

    def upload(process="linear", **changes):
        frame = copy.deepcopy(json.loads((DATA / process / "upload.request.json").read_text()))
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = frame["data"]
            for parent in parents:
                place = place[parent]
            if value is None:
                del place[last]
            else:
                place[last] = value
        return frame

    return upload


@pytest.fixture(scope="module")
def server():
    """A real PostgreSQL."""
    with postgresql.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """The URL of a new database, to which the node appends its database's name."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def postgresql_url(server):
    """The database that the service creates for a node: a login with one database and no other right."""
    node = orchestration.Node(postgresql.unique("n"), "a dataset", generation=1)
    cluster = SharedCluster(Administrator(server), server.endpoint)
    url = cluster.new_url(node)
    cluster.ensure(node, url)
    return url


@pytest.fixture
def node_id(database_url):
    """The id of the node that owns the database: on PostgreSQL its login."""
    return make_url(database_url).username or "fixture-node"
