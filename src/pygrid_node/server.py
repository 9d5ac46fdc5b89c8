"""Builds the node from its settings and runs it."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import structlog
from aiohttp import web

from pygrid_node.admission import Admission
from pygrid_node.averaging.averager import Averager
from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.averaging.timekeeper import Timekeeper
from pygrid_node.downloads import Downloads
from pygrid_node.orchestrator import PAUSES, Pauses, ProgressSender
from pygrid_node.settings import Settings
from pygrid_node.storage.cycles import CycleStore
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ProcessStore
from pygrid_node.storage.outbox import Outbox
from pygrid_node.training import Listener, Training
from pygrid_node.transport.app import create_app
from pygrid_node.transport.http import HttpApi
from pygrid_node.transport.messages import Messages
from pygrid_node.transport.websocket import WebSocketApi

_log = structlog.get_logger()

# ECS kills a container 30 s after SIGTERM; requests that run get a part of that.
_SHUTDOWN_TIME = 2.0
# Threads that answer requests; with the averaging ones fewer than the database has connections.
_THREADS = 16


class Node:
    """A node that can be started and stopped, once."""

    def __init__(self, settings: Settings, pauses: Pauses = PAUSES) -> None:
        """Connect to the database and wire everything; nothing is served yet."""
        self._settings = settings
        self._database = Database(settings.database)
        processes, cycles = ProcessStore(self._database), CycleStore(self._database)
        master = settings.master
        # On its own it keeps its progress, for the day that it is told whom to tell.
        self._progress = ProgressSender(Outbox(self._database), master, pauses) if master else None
        closer = CycleCloser(processes, cycles)
        self._averager = Averager(closer, on_closed=self._cycle_closed)
        self._timekeeper = Timekeeper(cycles, wake=self._averager.wake)
        listener = Listener(self._averager.wake_from_thread, self._timekeeper.look_from_thread)
        training = Training(processes, cycles, listener, place_lifetime=settings.place_lifetime)
        messages = Messages(training, self._averager, Admission(master) if master else None)
        limit = settings.max_message_bytes
        self._sockets = WebSocketApi(messages, node_id=settings.node_id, max_frame=limit)
        downloads = Downloads(processes, cycles)
        api = HttpApi(
            messages,
            downloads,
            self._sockets,
            node_id=settings.node_id,
            max_body=limit,
            authorization=master.authorization() if master else None,
        )
        app = create_app(api)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_TIME)

    async def start(self) -> int:
        """Serve, and take up what a former life left; the port, for settings that leave it to the system."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        await self._averager.start()
        await self._timekeeper.start()
        if self._progress:
            await self._progress.start()
        else:
            _log.warning("on_its_own", note="Without MASTER_NODE_URL anybody may upload and retrieve models.")
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.bind_host, self._settings.port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        _log.info("listening", node_id=self._settings.node_id, host=self._settings.bind_host, port=port)
        return port

    async def stop(self) -> None:
        """Take no more requests, finish the transactions that run, give the database back."""
        for site in list(self._runner.sites):
            await site.stop()
        await self._sockets.close()
        await self._runner.cleanup()
        if self._progress:
            await self._progress.stop()
        await self._timekeeper.stop()
        await self._averager.stop()
        await asyncio.get_running_loop().shutdown_default_executor()
        self._database.close()

    def _cycle_closed(self) -> None:
        if self._progress:
            self._progress.wake()
        self._timekeeper.look()


async def serve(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(settings)
    await node.start()
    await stop.wait()
    _log.info("stopping", node_id=settings.node_id)
    await node.stop()
