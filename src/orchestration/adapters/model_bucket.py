"""The private S3 bucket of trained models, and the links by which they are downloaded."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import quote

from itsdangerous import BadSignature, Signer

from orchestration.aws import upstream_errors
from orchestration.domain.entities import Model
from orchestration.domain.errors import NotFound
from orchestration.domain.ports import ModelForm, State

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from orchestration.adapters.model_file import StreamedFile

_LONGEST_FOLDER = 1024 - len("models//model.safetensors")  # S3 takes keys of 1,024 bytes
_LONGEST_NAME = 240  # bytes of a file's name before its extension; file systems take 255
_URL_LIFETIME = 300  # seconds to start a download; following the download link again gives a new URL


_ENDINGS = {ModelForm.SAFETENSORS: "safetensors", ModelForm.STATE: "state.pb", ModelForm.PKL: "pkl"}


@dataclass(frozen=True, slots=True)
class S3ModelBucket:
    """Implements the port `ModelBucket`."""

    client: "S3Client"
    bucket: str

    def store(self, model: Model, state: State) -> None:
        """Store each form; the one that download links lead to last, so that no link finds half a model."""
        # Imported here because only the reconciler calls this: web workers do without NumPy.
        from orchestration.adapters.model_file import pkl_file, safetensors_file, state_file

        tensors = safetensors_file(state, model)
        with upstream_errors("S3"):
            self._put(model, ModelForm.STATE, state_file(state))
            self._put(model, ModelForm.PKL, pkl_file(state))
            self._put(model, ModelForm.SAFETENSORS, tensors)

    def _put(self, model: Model, form: ModelForm, file: "StreamedFile") -> None:
        self.client.put_object(
            Bucket=self.bucket,
            Key=_key(model.model_id, form),
            Body=cast("BinaryIO", file),
            ContentLength=file.size,
            ContentType="application/x-protobuf" if form is ModelForm.STATE else "application/octet-stream",
        )

    def fresh_url(self, model_id: str, form: ModelForm) -> str:
        """Return a presigned URL; a browser saves its content as `<start of the model id>.<ending>`."""
        start = model_id.encode()[:_LONGEST_NAME].decode(errors="ignore")
        file_name = quote(f"{start}.{_ENDINGS[form]}", safe="")
        with upstream_errors("S3"):
            return self.client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": _key(model_id, form),
                    "ResponseContentDisposition": f"attachment; filename*=UTF-8''{file_name}",
                },
                ExpiresIn=_URL_LIFETIME,
            )


def _key(model_id: str, form: ModelForm) -> str:
    """Return `models/<id>/model.<ending>`.

    An id is free text: percent-encoded, it can't climb into another model's folder. If that is too long for a
    key, the folder is the id's hash, whose name is no encoded id, because it contains a colon.
    """
    folder = quote(model_id, safe="")
    if len(folder) > _LONGEST_FOLDER:
        folder = f"sha256:{hashlib.sha256(model_id.encode()).hexdigest()}"
    return f"models/{folder}/model.{_ENDINGS[form]}"


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
