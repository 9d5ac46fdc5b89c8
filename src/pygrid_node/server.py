"""Builds the node from its settings and runs it."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import structlog
from aiohttp import web

from pygrid_node.averaging.averager import Averager
from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.backoff import BACKOFF, Backoff
from pygrid_node.downloads import Downloads
from pygrid_node.orchestrator import ProgressSender, UploadCheck
from pygrid_node.settings import Settings
from pygrid_node.storage.cycles import CycleStore, Outbox
from pygrid_node.storage.database import Database
from pygrid_node.storage.models import ModelStore
from pygrid_node.training import Training
from pygrid_node.transport.connections import Connections
from pygrid_node.transport.http import HttpApi
from pygrid_node.transport.intake import Intake
from pygrid_node.transport.messages import Messages
from pygrid_node.transport.peers import Peers
from pygrid_node.transport.websocket import WebSocketApi
from pygrid_node.uploads import UploadLimits

_log = structlog.get_logger()

# ECS kills a container 30 s after SIGTERM; running requests get a part of that.
_SHUTDOWN_TIMEOUT = 2.0
# Seconds after which the next cycle opens although the orchestrator has not accepted the progress. Workers
# report their losses to the orchestrator, which counts them in the cycle that it has not closed yet.
_OPENING_DELAY = 2.0
# Threads for requests; with those for averaging, fewer than the database has connections.
_THREADS = 16


class Node:
    """A node that can be started and stopped once."""

    def __init__(self, settings: Settings, backoff: Backoff = BACKOFF) -> None:
        """Connect to the database and wire everything; nothing is served yet."""
        self._settings = settings
        self._database = Database(settings.database)
        least = settings.min_reports
        location = settings.orchestrator
        models = ModelStore(self._database, least)
        cycles = CycleStore(self._database, _OPENING_DELAY if location else 0.0)
        cycles.require_reports(least)
        # Without an orchestrator, progress stays in the outbox until a later start has one.
        self._progress = ProgressSender(Outbox(self._database), location, backoff) if location else None
        # A model is sent in hexadecimal.
        limits = UploadLimits(settings.max_message_bytes // 2, settings.max_averaging_bytes)
        self._closer = CycleCloser(models, cycles, min_reports=least, most_memory=limits.averaging)
        self._averager = Averager(
            self._closer,
            cycles,
            on_closed=self._progress.wake if self._progress else lambda: None,
            backoff=backoff,
        )
        training = Training(
            models,
            cycles,
            on_due=self._averager.cycle_is_due,
            on_opened=self._averager.cycle_was_opened,
            lease_time=settings.place_lifetime,
            spare_workers=settings.spare_workers,
            min_reports=least,
            limits=limits,
        )
        messages = Messages(training, self._averager, UploadCheck(location) if location else None)
        peers = Peers(settings.trusted_proxies)
        intake = Intake(settings.max_bytes_in_flight, max_message=settings.max_message_bytes)
        self._sockets = WebSocketApi(messages, peers, intake, node_id=settings.node_id)
        api = HttpApi(
            messages,
            Downloads(models, cycles),
            self._sockets,
            peers,
            intake,
            node_id=settings.node_id,
            authorization=location.authorization if location else None,
        )
        self._runner = web.AppRunner(api.app(), shutdown_timeout=_SHUTDOWN_TIMEOUT)
        self._listener: asyncio.Server | None = None

    async def start(self) -> int:
        """Serve, and resume the averaging and the progress of the last run; return the port."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_THREADS))
        await self._averager.start()
        if self._progress:
            await self._progress.start()
        else:
            _log.warning("orchestrator.not_set", note="Any client may upload and retrieve models.")
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - after setup()
        connections = Connections(self._runner.server, self._settings.max_connections)
        self._listener = await loop.create_server(connections, self._settings.bind_host, self._settings.port)
        port: int = self._listener.sockets[0].getsockname()[1]
        _log.info("node.started", node_id=self._settings.node_id, host=self._settings.bind_host, port=port)
        return port

    async def stop(self) -> None:
        """Accept no more requests, finish the running transactions, close the database."""
        if self._listener:
            self._listener.close()
        await self._sockets.close()
        await self._runner.cleanup()
        if self._progress:
            await self._progress.stop()
        await self._averager.stop()
        await asyncio.to_thread(self._closer.stop)
        await asyncio.get_running_loop().shutdown_default_executor()
        self._database.close()
        _log.info("node.stopped", node_id=self._settings.node_id)


async def serve(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(settings)
    await node.start()
    await stop.wait()
    await node.stop()
