"""Cognito's SRP login: moto sends a random challenge and accepts any answer to it.

The second half of this file is the server's side of SRP-6a, as pure functions of numbers. The rules are those
of RFC 5054 with Cognito's own choices, which every client library repeats (amplify's AuthenticationHelper,
warrant, pycognito): the 3072-bit group of RFC 3526, SHA-256, numbers hashed as signed big-endian bytes, a
16-byte HKDF key, and a signed claim instead of the protocol's proof. Numbers travel as hex without leading
zeros.
"""

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any, Self

from moto.cognitoidp.exceptions import InvalidParameterException, NotAuthorizedError
from moto.cognitoidp.models import CognitoIdpBackend, CognitoIdpUserPool

SALT_BITS = 128
SECRET_BITS = 256


def check_passwords() -> None:
    """Make `USER_SRP_AUTH` a real exchange, so that a wrong password is refused as on AWS."""
    initiate, respond = CognitoIdpBackend.initiate_auth, CognitoIdpBackend.respond_to_auth_challenge
    exchanges: dict[str, Exchange] = {}

    def initiate_auth(
        self: Any, client_id: str, auth_flow: str, auth_parameters: dict[str, str]
    ) -> dict[str, Any]:
        answer: dict[str, Any] = initiate(self, client_id, auth_flow, auth_parameters)
        if answer.get("ChallengeName") != "PASSWORD_VERIFIER":
            return answer
        username, pool = self.sessions.pop(answer["Session"])
        exchange = _begin(pool, username, auth_parameters["SRP_A"])
        # moto finds a claim's session by its secret block. moto's own block isn't base64, which clients
        # decode.
        block = b64encode(secrets.token_bytes(48)).decode()
        self.sessions[block] = (username, pool)
        exchanges[block] = exchange
        answer["Session"] = block
        answer["ChallengeParameters"] |= {
            "SALT": f"{exchange.salt:x}",
            "SRP_B": f"{exchange.public:x}",
            # The username, not moto's internal id: warrant sends it back as the name to log in.
            "USER_ID_FOR_SRP": exchange.login.username,
            "SECRET_BLOCK": block,
        }
        return answer

    def respond_to_auth_challenge(
        self: Any, session: str, client_id: str, challenge_name: str, challenge_responses: dict[str, str]
    ) -> dict[str, Any]:
        if challenge_name == "PASSWORD_VERIFIER":
            block = challenge_responses.get("PASSWORD_CLAIM_SECRET_BLOCK", "")
            exchange = exchanges.pop(block, None)
            if exchange is None or not _is_proven(exchange, block, challenge_responses):
                self.sessions.pop(block, None)
                raise NotAuthorizedError("Incorrect username or password.")
            # The password of one user must not log in another one.
            challenge_responses = challenge_responses | {"USERNAME": exchange.login.username}
        answer: dict[str, Any] = respond(self, session, client_id, challenge_name, challenge_responses)
        return answer

    CognitoIdpBackend.initiate_auth = initiate_auth
    CognitoIdpBackend.respond_to_auth_challenge = respond_to_auth_challenge


def _begin(pool: CognitoIdpUserPool, username: str, client_public: str) -> "Exchange":
    user = pool._get_user(username)
    if not user.password:
        raise NotAuthorizedError("Incorrect username or password.")
    login = Login(pool.id.split("_", 1)[1], user.username, user.password)
    try:
        return Exchange.begin(
            login, client_public, secrets.randbits(SALT_BITS), secrets.randbits(SECRET_BITS)
        )
    except BadPublicValueError as error:
        raise InvalidParameterException(str(error)) from error


def _is_proven(exchange: "Exchange", block: str, claim: dict[str, str]) -> bool:
    return exchange.accepts(block, claim.get("TIMESTAMP", ""), claim.get("PASSWORD_CLAIM_SIGNATURE", ""))


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
    """The client's A is not a number, or makes the key independent of the password."""


@dataclass(frozen=True, slots=True)
class Login:
    """Pool, username and password, which both sides hash into the key."""

    pool: str
    """The pool's id without its region."""
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange, from the challenge to the claim. Use it for one claim only."""

    login: Login
    salt: int
    public: int
    key: bytes

    @classmethod
    def begin(cls, login: Login, client_public: str, salt: int, secret: int) -> Self:
        """Begin with the client's A, in hex, and two random numbers. Raises BadPublicValueError."""
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
        """Return whether the claim's signature proves knowledge of the password."""
        identity = f"{self.login.pool}{self.login.username}".encode()
        message = identity + b64decode(secret_block) + timestamp.encode()
        expected = b64encode(hmac.digest(self.key, message, "sha256"))
        return hmac.compare_digest(expected, signature.encode())


def _signed(number: int) -> bytes:
    """Return big-endian two's complement: with a leading zero byte if the first bit is set."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _number(hashed: bytes) -> int:
    return int.from_bytes(hashlib.sha256(hashed).digest(), "big")


def _derive(shared: int, scrambler: int) -> bytes:
    """Return one block of HKDF (RFC 5869), cut to 16 bytes."""
    extracted = hmac.digest(_signed(scrambler), _signed(shared), "sha256")
    return hmac.digest(extracted, INFO + b"\x01", "sha256")[:16]
