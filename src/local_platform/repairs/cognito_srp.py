"""Cognito's SRP login: moto sends random numbers as the challenge and takes any answer to it."""

import secrets
from base64 import b64encode
from typing import Any

from moto.cognitoidp.exceptions import InvalidParameterException, NotAuthorizedError
from moto.cognitoidp.models import CognitoIdpBackend, CognitoIdpUserPool

from local_platform.repairs.srp import BadPublicValueError, Exchange, Login

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
        # moto finds the session of the claim by its secret block; its own isn't base64, which clients decode.
        block = b64encode(secrets.token_bytes(48)).decode()
        self.sessions[block] = (username, pool)
        exchanges[block] = exchange
        answer["Session"] = block
        answer["ChallengeParameters"] |= {
            "SALT": f"{exchange.salt:x}",
            "SRP_B": f"{exchange.public:x}",
            # The user name, not moto's internal id: warrant sends it back as the name to log in.
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
            # Whoever proved one name's password must not log in as another.
            challenge_responses = challenge_responses | {"USERNAME": exchange.login.username}
        answer: dict[str, Any] = respond(self, session, client_id, challenge_name, challenge_responses)
        return answer

    CognitoIdpBackend.initiate_auth = initiate_auth
    CognitoIdpBackend.respond_to_auth_challenge = respond_to_auth_challenge


def _begin(pool: CognitoIdpUserPool, username: str, client_public: str) -> Exchange:
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


def _is_proven(exchange: Exchange, block: str, claim: dict[str, str]) -> bool:
    return exchange.accepts(block, claim.get("TIMESTAMP", ""), claim.get("PASSWORD_CLAIM_SIGNATURE", ""))
