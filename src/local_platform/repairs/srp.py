"""The server's half of SRP-6a as Cognito speaks it. Pure; big numbers travel as hex without leading zeros.

The rules are those of RFC 5054 with Cognito's own choices, which every client library repeats (amplify's
AuthenticationHelper, warrant, pycognito): the 3072-bit group of RFC 3526, SHA-256, numbers hashed as signed
big-endian bytes, a 16-byte HKDF key, and a signed claim instead of the protocol's proof.
"""

import hashlib
import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Self

N = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7"
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
    16,
)
"""The prime of RFC 3526, section 4."""
G = 2
INFO = b"Caldera Derived Key"


class BadPublicValueError(Exception):
    """The client's A is no number, or one that would make the key independent of the password."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in where: what both sides hash into the key."""

    pool: str
    """The pool's id without its region."""
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange, from the challenge to the claim; good for one claim only."""

    login: Login
    salt: int
    public: int
    key: bytes

    @classmethod
    def begin(cls, login: Login, client_public: str, salt: int, secret: int) -> Self:
        """Take the client's A (hex); `salt` and `secret` are random. Raises BadPublicValueError."""
        try:
            a = int(client_public, 16)
        except ValueError as error:
            raise BadPublicValueError("SRP_A is not a hexadecimal number.") from error
        if a <= 0 or a % N == 0:
            raise BadPublicValueError("SRP_A is not acceptable.")
        identity = hashlib.sha256(f"{login.pool}{login.username}:{login.password}".encode()).digest()
        verifier = pow(G, _number(_signed(salt) + identity), N)
        public = (_number(_signed(N) + _signed(G)) * verifier + pow(G, secret, N)) % N
        scrambler = _number(_signed(a) + _signed(public))
        shared = pow(a * pow(verifier, scrambler, N), secret, N)
        return cls(login, salt, public, _derive(shared, scrambler))

    def accepts(self, secret_block: str, timestamp: str, signature: str) -> bool:
        """Whether the claim was signed by somebody who knows the password."""
        who = f"{self.login.pool}{self.login.username}".encode()
        message = who + b64decode(secret_block) + timestamp.encode()
        expected = b64encode(hmac.digest(self.key, message, "sha256"))
        return hmac.compare_digest(expected, signature.encode())


def _signed(number: int) -> bytes:
    """As big-endian two's complement: a leading zero byte where the first bit is set."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _number(hashed: bytes) -> int:
    return int.from_bytes(hashlib.sha256(hashed).digest(), "big")


def _derive(shared: int, scrambler: int) -> bytes:
    """HKDF (RFC 5869), one block, cut to 16 bytes."""
    extracted = hmac.digest(_signed(scrambler), _signed(shared), "sha256")
    return hmac.digest(extracted, INFO + b"\x01", "sha256")[:16]
