"""The transport without a node behind it."""

import contextlib

import pytest
from aiohttp.test_utils import TestClient, TestServer

from pygrid_node.downloads import Downloads
from pygrid_node.errors import NodeError
from pygrid_node.transport.http import HttpApi
from pygrid_node.transport.intake import Intake
from pygrid_node.transport.messages import Messages
from pygrid_node.transport.peers import Peers
from pygrid_node.transport.websocket import WebSocketApi


class Recorder(Messages):
    """Records messages, and answers each with its kind or with `answer_with`, when `gate` lets it."""

    def __init__(self):
        self.messages = []
        self.addresses = []
        self.gate = None
        self.answer_with = None

    async def answer(self, kind, data, address):
        self.messages.append((kind, data))
        self.addresses.append((kind, address))
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(data, dict) and "refuse" in data:
            raise NodeError(data["refuse"])
        return self.answer_with or {"kind": kind}


@pytest.fixture
def recorder():
    """See `Recorder`."""
    return Recorder()


@pytest.fixture
def serve(recorder):
    """Serve a recorder on a socket, with an intake of the test's own."""

    @contextlib.asynccontextmanager
    async def serving(intake=None, *, peers=None, downloads=None):
        intake, peers = intake or Intake(2**30, max_message=2**24), peers or Peers()
        sockets = WebSocketApi(recorder, peers, intake, node_id="n")
        downloads = downloads or Downloads(None, None)
        api = HttpApi(recorder, downloads, sockets, peers, intake, node_id="n", authorization=None)
        async with TestClient(TestServer(api.app())) as client:
            yield client

    return serving
