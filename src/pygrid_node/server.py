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
from pygrid_node.transport.http import HttpApi
from pygrid_node.transport.messages import Messages
from pygrid_node.transport.peers import Peers
from pygrid_node.transport.websocket import WebSocketApi
from pygrid_node.uploads import UploadLimits

_log = structlog.get_logger()

# ECS kills a container 30 s after SIGTERM; running requests get a part of that.
_SHUTDOWN_TIMEOUT = 2.0
# Threads for requests; with those for averaging, fewer than the database has connections.
_THREADS = 16


class Node:
    """A node that can be started and stopped once."""

    def __init__(self, settings: Settings, backoff: Backoff = BACKOFF) -> None:
        """Connect to the database and wire everything; nothing is served yet."""
        self._settings = settings
        self._database = Database(settings.database)
        least = settings.min_reports
        models, cycles = ModelStore(self._database, least), CycleStore(self._database)
        cycles.require_reports(least)
        location, limit = settings.orchestrator, settings.max_message_bytes
        # Without an orchestrator, progress stays in the outbox until a later start has one.
        self._progress = ProgressSender(Outbox(self._database), location, backoff) if location else None
        limits = UploadLimits(
            model=limit // 2, averaging=settings.max_averaging_bytes
        )  # a model is sent in hex
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
            min_reports=least,
            limits=limits,
        )
        messages = Messages(training, self._averager, UploadCheck(location) if location else None)
        peers = Peers(settings.trusted_proxies)
        self._sockets = WebSocketApi(messages, peers, node_id=settings.node_id, max_message=limit)
        api = HttpApi(
            messages,
            Downloads(models, cycles),
            self._sockets,
            peers,
            node_id=settings.node_id,
            max_message=limit,
            authorization=location.authorization if location else None,
        )
        self._runner = web.AppRunner(api.app(), access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)

    async def start(self) -> int:
        """Serve, and resume the averaging and the progress of the last run; return the port."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        await self._averager.start()
        if self._progress:
            await self._progress.start()
        else:
            _log.warning("orchestrator.not_set", note="Any client may upload and retrieve models.")
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.bind_host, self._settings.port)
        await site.start()
        port: int = self._runner.addresses[0][1]
        _log.info("node.started", node_id=self._settings.node_id, host=self._settings.bind_host, port=port)
        return port

    async def stop(self) -> None:
        """Accept no more requests, finish the running transactions, close the database."""
        for site in list(self._runner.sites):
            await site.stop()
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
