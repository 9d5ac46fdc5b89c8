"""The private S3 bucket of trained models, and the links by which they are downloaded."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from itsdangerous import BadSignature, Signer

from orchestration.aws import upstream_errors
from orchestration.domain.entities import Model
from orchestration.domain.errors import NotFound, UnusableModel

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_URL_LIFETIME = 300  # seconds to start a download; following the download link again gives a new URL


@dataclass(frozen=True, slots=True)
class S3ModelBucket:
    """Implements the port `ModelBucket`."""

    client: "S3Client"
    bucket: str

    def store(self, model: Model, state: bytes) -> None:
        """Store both forms; the one that download links lead to last, so that no link finds half a model."""
        tensors = as_safetensors(state, model)
        with upstream_errors("S3"):
            self._put(_key(model.model_id, "state.pb"), state, "application/x-protobuf")
            self._put(_key(model.model_id, "safetensors"), tensors, "application/octet-stream")

    def _put(self, key: str, body: bytes, content_type: str) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type)

    def fresh_url(self, model_id: str) -> str:
        """Return a presigned URL; a browser saves its content as `<model id>.safetensors`."""
        file_name = quote(f"{model_id}.safetensors", safe="")
        with upstream_errors("S3"):
            return self.client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": _key(model_id, "safetensors"),
                    "ResponseContentDisposition": f"attachment; filename*=UTF-8''{file_name}",
                },
                ExpiresIn=_URL_LIFETIME,
            )


def as_safetensors(state: bytes, model: Model) -> bytes:
    """Convert a State to safetensors: its parameters, in order, are `param_000`, `param_001`, ...

    Raises UnusableModel.
    """
    # Imported here because only the reconciler calls this: web workers do without NumPy.
    from safetensors.numpy import save

    from pygrid_wire.state import MalformedState, decode_state

    try:
        parameters = decode_state(state)
    except MalformedState as error:
        raise UnusableModel(f"The trained model can't be read: {error}") from error
    named = {f"param_{position:03}": array for position, array in enumerate(parameters)}
    return save(named, metadata={"model_id": model.model_id, "version": model.version})


def _key(model_id: str, form: str) -> str:
    """An id is free text: percent-encoded, it can't climb into another model's folder."""
    return f"models/{quote(model_id, safe='')}/model.{form}"


class DownloadLinks:
    """Signs and verifies links of the form `<public url>/download/<model id>?key=<key>.<signature>`."""

    def __init__(self, public_url: str, secret: str) -> None:
        self._public_url = public_url
        self._secret = secret

    def link(self, model_id: str, download_key: str) -> str:
        """Return the link that is bound to a model and its download key."""
        signed = self._signer(model_id).sign(download_key).decode()
        return f"{self._public_url}/download/{quote(model_id, safe='')}?key={signed}"

    def verify(self, model_id: str, signed_key: str) -> str:
        """Return the key inside `signed_key`. Raises NotFound for a forged link, as for a missing model."""
        try:
            return self._signer(model_id).unsign(signed_key).decode()
        except BadSignature as error:
            raise NotFound("This download link is not valid.") from error

    def _signer(self, model_id: str) -> Signer:
        return Signer(self._secret, salt=f"download:{model_id}", digest_method=hashlib.sha256)
