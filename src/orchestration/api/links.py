"""Stable download links: anybody who holds one may follow it, nobody can make one up."""

import hashlib
from urllib.parse import quote

from itsdangerous import BadSignature, Signer

from orchestration.domain.errors import NotFound


class DownloadLinks:
    """Signs and checks links of the form `<public url>/download/<model id>?key=<key>.<signature>`."""

    def __init__(self, public_url: str, secret: str) -> None:
        self._public_url = public_url
        self._secret = secret

    def link(self, model_id: str, download_key: str) -> str:
        """Return the link that is bound to this model and this key of its."""
        signed = self._signer(model_id).sign(download_key).decode()
        return f"{self._public_url}/download/{quote(model_id, safe='')}?key={signed}"

    def download_key(self, model_id: str, signed: str) -> str:
        """Return the key of a link. Raises NotFound: a forged link says nothing about what there is."""
        try:
            return self._signer(model_id).unsign(signed).decode()
        except BadSignature as error:
            raise NotFound("This download link is not valid.") from error

    def _signer(self, model_id: str) -> Signer:
        return Signer(self._secret, salt=f"download:{model_id}", digest_method=hashlib.sha256)
