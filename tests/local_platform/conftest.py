"""A moto server, a whole platform, and a client of SRP logins that shares no code with the server."""

import hashlib
import hmac
import os
import secrets
import signal
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_platform.clients import LocalAws
from local_platform.network import answers, available_port
from local_platform.platform import Options, Platform
from local_platform.signals import STOP_SIGNALS
from local_platform.supervisor import Program, Supervisor, inherited


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """AWS for all tests of this process. Tests choose names that no other test uses."""
    port = available_port(0, "--port")
    here = LocalAws(f"http://127.0.0.1:{port}", "us-east-1")
    command = (sys.executable, "-m", "local_platform.moto_server", "--port", str(port))
    log = tmp_path_factory.mktemp("aws") / "aws.log"
    with Supervisor() as supervisor:
        supervisor.start(Program("aws", command, inherited(os.environ), log, restart=False))
        supervisor.wait_for("aws", lambda: answers(f"{here.url}/moto-api/"), 60)
        yield here


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A running platform for all tests of this process. Tests submit models of their own."""
    with Platform(Options(tmp_path_factory.mktemp("platform"), port=0, aws_port=0)) as platform:
        yield platform


@pytest.fixture
def _signal_handlers() -> Iterator[None]:
    """Restores the handlers that commands replace."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def python_program(tmp_path: Path):
    """Make programs that run Python code, by default code that sleeps."""

    def make(name: str = "sleeper", code: str = "import time; time.sleep(60)", **options) -> Program:
        command = (sys.executable, "-c", code)
        return Program(name, command, inherited(os.environ), tmp_path / f"{name}.log", **options)

    return make


class SrpClient:
    """The client's side of the exchange, in hex strings as the JavaScript libraries write it."""

    def __init__(self, prime: int, pool_id: str, username: str, password: str) -> None:
        self._prime = prime
        self._pool = pool_id.split("_")[1]
        self._username = username
        self._password = password
        self._secret = secrets.randbits(256)
        self.public = f"{pow(2, self._secret, prime):x}"

    def claim(
        self, challenge: dict[str, str], timestamp: str = "Mon Nov 23 4:05:06 UTC 2026"
    ) -> dict[str, str]:
        """Answer the challenge."""
        message = (self._pool + challenge["USER_ID_FOR_SRP"]).encode()
        message += b64decode(challenge["SECRET_BLOCK"], validate=True) + timestamp.encode()
        signature = hmac.new(self._key(challenge), message, hashlib.sha256).digest()
        return {
            "USERNAME": challenge["USER_ID_FOR_SRP"],
            "PASSWORD_CLAIM_SECRET_BLOCK": challenge["SECRET_BLOCK"],
            "PASSWORD_CLAIM_SIGNATURE": b64encode(signature).decode(),
            "TIMESTAMP": timestamp,
        }

    def _key(self, challenge: dict[str, str]) -> bytes:
        server = challenge["SRP_B"]
        multiplier = _hash(_pad(f"{self._prime:x}") + "02")
        scrambler = _hash(_pad(self.public) + _pad(server))
        identity = f"{self._pool}{challenge['USER_ID_FOR_SRP']}:{self._password}".encode()
        private = int(_hash(_pad(challenge["SALT"]) + hashlib.sha256(identity).hexdigest()), 16)
        base = int(server, 16) - int(multiplier, 16) * pow(2, private, self._prime)
        shared = pow(base, self._secret + int(scrambler, 16) * private, self._prime)
        extracted = hmac.new(
            bytes.fromhex(_pad(scrambler)), bytes.fromhex(_pad(f"{shared:x}")), hashlib.sha256
        )
        expanded = hmac.new(extracted.digest(), b"Caldera Derived Key" + bytes([1]), hashlib.sha256)
        return expanded.digest()[:16]


def _pad(number: str) -> str:
    number = number.lstrip("0") or "0"
    number = "0" * (len(number) % 2) + number
    return "00" + number if number[0] in "89abcdef" else number


def _hash(number: str) -> str:
    return hashlib.sha256(bytes.fromhex(number)).hexdigest()


@pytest.fixture(scope="session")
def prime() -> int:
    """RFC 3526's prime from its definition: 2^3072 - 2^3008 - 1 + 2^64 * ([2^2942 pi] + 1690314)."""
    unit = 1 << (2942 + 64)  # 64 bits more than needed, against rounding errors
    pi = 4 * (4 * _arctan_of_inverse(5, unit) - _arctan_of_inverse(239, unit))
    return 2**3072 - 2**3008 - 1 + 2**64 * ((pi >> 64) + 1690314)


def _arctan_of_inverse(x: int, unit: int) -> int:
    total, power, n = 0, unit // x, 1
    while power:
        total += power // n if n % 4 == 1 else -(power // n)
        power //= x * x
        n += 2
    return total


@pytest.fixture
def srp_client(prime: int):
    """Make clients: `srp_client(pool_id, username, password)`."""
    return lambda *login: SrpClient(prime, *login)
