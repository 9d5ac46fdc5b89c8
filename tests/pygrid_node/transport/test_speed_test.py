"""The speed test: samples only for workers that must measure their speed, one at a time for each."""

import asyncio
import contextlib
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pygrid_node.transport.speed_test import SpeedTest
from tests.pygrid_node.helpers import wait_for

MISC = json.loads((Path(__file__).parents[2] / "data" / "pygrid" / "misc.json").read_text())
SPEED_TEST = "/model-centric/speed-test"
SAMPLE = 64 * 1024**2


@pytest.fixture
def worker(node, recorded):
    """A worker of a model with a minimum speed."""
    node.upload(recorded(server_config__minimum_download_speed=1))
    return node.worker("fixture-linear")


def query(worker_id, **more):
    return {"worker_id": worker_id, "random": "1", **more}


@pytest.mark.moto
def test_speed_test_sends_64_mib_as_a_form(node, worker):
    """The length is the recorded one; the boundary is that of the header."""
    answer = node.http("GET", SPEED_TEST, params=query(worker.id))
    [recorded] = [entry for entry in MISC["http"] if entry["what"] == "download sample"]
    boundary = answer.headers["Content-Type"].removeprefix("multipart/form-data; boundary=")

    assert worker.authenticated["requires_speed_test"] is True
    assert len(answer.content) == int(answer.headers["Content-Length"]) == recorded["body_length"]
    assert answer.content.startswith(
        f'--{boundary}\r\nContent-Disposition: form-data; name="sample"'.encode()
    )
    assert answer.content.endswith(f"xxx\r\n--{boundary}--\r\n".encode())
    assert answer.content.count(b"x") >= SAMPLE


@pytest.mark.moto
def test_speed_test_accepts_the_sample_of_a_worker_and_answers_pings(node, worker):
    """The body is discarded, and not limited like a message. The Python client sends 64 MiB at last."""
    sample = b"upload_data=" + b"x" * SAMPLE
    assert node.http("POST", SPEED_TEST, params=query(worker.id), data=sample).json() == {}
    assert node.http("GET", SPEED_TEST, params=query(worker.id, is_ping="1")).json() == {}
    assert node.http("POST", SPEED_TEST).status_code == 400


def attempts(node, worker_id):
    """The answers to a download, a ping and an upload."""
    return [
        node.http("GET", SPEED_TEST, params=query(worker_id)),
        node.http("GET", SPEED_TEST, params=query(worker_id, is_ping="1")),
        node.http("POST", SPEED_TEST, params=query(worker_id), data=b"upload_data=x"),
    ]


@pytest.mark.moto
@pytest.mark.parametrize("worker_id", ["made-up", "", "\0", "1" * 3000])
def test_worker_that_does_not_exist_gets_no_sample(node, worker_id):
    """Anybody may ask the node."""
    for answer in attempts(node, worker_id):
        assert (answer.status_code, answer.json()) == (400, {"error": "Worker ID not found!"})


@pytest.mark.moto
@pytest.mark.parametrize("minimum", [0, 0.0, None])
def test_worker_of_a_model_without_a_minimum_gets_no_sample(node, recorded, minimum):
    """Any speed is enough, so the clients need not measure theirs."""
    changes = {f"server_config__minimum_{way}_speed": minimum for way in ("upload", "download")}
    node.upload(recorded(**changes))
    worker = node.worker("fixture-linear")

    assert worker.authenticated["requires_speed_test"] is False
    for answer in attempts(node, worker.id):
        assert answer.status_code == 400
        assert answer.json() == {"error": "The model of this worker requires no speed test."}


@pytest.mark.moto
def test_worker_gets_one_sample_at_a_time(node, worker, recorded):
    """Another worker may measure meanwhile; a client that disconnects leaves its place."""
    other = node.worker("fixture-linear")
    running = node.http("GET", SPEED_TEST, params=query(worker.id), stream=True)
    assert running.raw.read(100)
    refused = [
        node.http("GET", SPEED_TEST, params=query(worker.id)),
        node.http("POST", SPEED_TEST, params=query(worker.id), data=b"x"),
    ]
    allowed = node.http("POST", SPEED_TEST, params=query(other.id), data=b"x")
    running.close()

    assert [(answer.status_code, answer.headers["Retry-After"]) for answer in refused] == [(429, "60")] * 2
    assert "Try again in a minute" in refused[0].json()["error"]
    assert allowed.json() == {}
    assert wait_for(lambda: node.http("POST", SPEED_TEST, params=query(worker.id), data=b"x").ok)


@contextlib.asynccontextmanager
async def served(speed_test):
    """Serve a speed test alone; yields the URL, and a session to request it."""
    app = web.Application()
    app.add_routes([web.get("/", speed_test.send), web.post("/", speed_test.receive)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
        yield session
    await runner.cleanup()


def worker_of(given):
    return given["worker_id"]


def test_samples_on_their_way_are_limited():
    """Worker ids cost nothing: whoever authenticates gets a new one."""

    async def story():
        async with served(SpeedTest(worker_of, at_once=3)) as session:
            running = [await session.get("/", params={"worker_id": str(number)}) for number in range(3)]
            async with session.get("/", params={"worker_id": "3"}) as answer:
                refused = answer.status
            for each in running:
                each.close()
            while True:
                async with session.post("/", params={"worker_id": "3"}, data=b"x") as answer:
                    if answer.ok:
                        return refused

    assert asyncio.run(story()) == 429


async def endless(first):
    """Send a part, and then nothing."""
    yield first
    await asyncio.sleep(60)


def test_sample_that_takes_too_long_is_given_up():
    """A client that reads or sends nothing would keep its place."""

    async def story():
        async with served(SpeedTest(worker_of, longest=0.2)) as session:
            async with session.get("/", params={"worker_id": "a"}) as answer:
                await asyncio.sleep(0.5)
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()
            async with session.post("/", params={"worker_id": "b"}, data=endless(b"x")) as answer:
                return answer.status

    assert asyncio.run(story()) == 408


def test_sample_that_is_too_large_is_refused():
    """A worker's sample has 64 MiB and a few bytes; twice as much is read, and no more."""
    size = 2 * SAMPLE + 1

    async def story():
        async with (
            served(SpeedTest(worker_of)) as session,
            session.post("/", params={"worker_id": "a"}, data=endless(bytes(size))) as answer,
        ):
            return answer.status

    assert asyncio.run(story()) == 413
