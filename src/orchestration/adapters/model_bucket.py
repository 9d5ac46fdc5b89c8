"""The private bucket of trained models: the node's protobuf as it came, and safetensors to open today."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from orchestration.aws import upstream_errors
from orchestration.domain.entities import Model
from orchestration.domain.errors import UnusableModel

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

URL_LIFETIME = 300
"""Seconds: enough to begin a download; the link that leads here can be followed again at any time."""


@dataclass(frozen=True, slots=True)
class S3ModelBucket:
    """Implements the port `ModelBucket`."""

    client: "S3Client"
    bucket: str

    def store(self, model: Model, state: bytes) -> None:
        """Keep both forms; the one that links lead to last."""
        tensors = as_safetensors(state, model)
        with upstream_errors("S3"):
            self._put(_key(model.model_id, "state.pb"), state, "application/x-protobuf")
            self._put(_key(model.model_id, "safetensors"), tensors, "application/octet-stream")

    def _put(self, key: str, body: bytes, content_type: str) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type)

    def fresh_url(self, model_id: str) -> str:
        """Return a presigned URL under which a browser saves `<model id>.safetensors`."""
        file_name = quote(f"{model_id}.safetensors", safe="")
        with upstream_errors("S3"):
            return self.client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": _key(model_id, "safetensors"),
                    "ResponseContentDisposition": f"attachment; filename*=UTF-8''{file_name}",
                },
                ExpiresIn=URL_LIFETIME,
            )


def as_safetensors(state: bytes, model: Model) -> bytes:
    """Return a State's parameters, in order, as `param_000`, `param_001`, ... Raises UnusableModel."""
    # Only the reconciler comes here; a web worker never pays for NumPy.
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
