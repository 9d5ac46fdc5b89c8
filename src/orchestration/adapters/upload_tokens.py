"""Upload tokens: they show a node's uploader to be the one who called `/create`."""

import hashlib
from dataclasses import dataclass, field

from itsdangerous import BadData, URLSafeTimedSerializer

LIFETIME = 3600.0


@dataclass(frozen=True, slots=True)
class SignedUploadTokens:
    """Implements the port `UploadTokens`; a token is valid for `lifetime` seconds."""

    secret: str = field(repr=False)
    lifetime: float = LIFETIME

    def token(self, node_id: str, name: str, version: str) -> str:
        """Return a token that is bound to a node and to the model's name and version on it."""
        return str(self._serializer.dumps([node_id, name, version]))

    def is_valid(self, token: str, node_id: str, name: str, version: str) -> bool:
        """Return whether a token was made for these within its lifetime."""
        try:
            bound = self._serializer.loads(token, max_age=int(self.lifetime))
        except BadData:
            return False
        return bool(bound == [node_id, name, version])

    @property
    def _serializer(self) -> URLSafeTimedSerializer:
        options = {"digest_method": hashlib.sha256}
        return URLSafeTimedSerializer(self.secret, salt="upload", signer_kwargs=options)
