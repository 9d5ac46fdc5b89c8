"""Request JSON to typed values, or InvalidRequest with a sentence that names the field."""

from typing import Annotated, Literal, TypeVar

from flask import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from orchestration.domain.errors import InvalidRequest

Id = Annotated[str, Field(min_length=1, max_length=512)]
"""Free text; DynamoDB takes keys of up to 2,048 bytes, and UTF-8 makes at most 4 of a character."""

MOST_COLUMNS = 1_000
LONGEST_COLUMNS = 16_000
"""Bytes of all names of a model's columns, which share its item of at most 400 kB with its history."""

Columns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=512)], ...], Field(min_length=1)]


class Payload(BaseModel):
    """What a route takes: exactly typed; what it doesn't know, it doesn't mind."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class CreatePayload(Payload):
    """POST /create."""

    dataset_id: Id
    model_id: Id
    features: Columns
    labels: Columns

    @model_validator(mode="after")
    def _limit_columns(self) -> "CreatePayload":
        columns = (*self.features, *self.labels)
        if len(columns) > MOST_COLUMNS:
            raise ValueError("features and labels have at most 1,000 columns together")
        if sum(len(name.encode()) for name in columns) > LONGEST_COLUMNS:
            raise ValueError("the names of features and labels have at most 16 kB together")
        return self


class DeletePayload(Payload):
    """POST /delete: a dataset's node or a model."""

    dataset_id: Id | None = None
    model_id: Id | None = None
    force: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> "DeletePayload":
        if (self.dataset_id is None) == (self.model_id is None):
            raise ValueError("send either dataset_id or model_id")
        return self


class DatasetPayload(Payload):
    """POST /info."""

    dataset_id: Id


class ModelPayload(Payload):
    """POST /rotate_link."""

    model_id: Id


class UserPayload(Payload):
    """POST /get_datasets."""

    user_id: Id


class KeyPayload(UserPayload):
    """POST /generate_key. `revoke` ends all other keys at once."""

    revoke: bool = False


class LossPayload(Payload):
    """POST /model_loss. The pod's `acc` is always -1: not measured."""

    model_id: Id
    loss: Annotated[float, Field(allow_inf_nan=False)]
    acc: Annotated[float, Field(allow_inf_nan=False)] = -1.0


class ProgressPayload(Payload):
    """POST /model_progress. Our node adds the cycle it closes, counted from 1, and the number of cycles."""

    model_id: Id
    percent_complete: Annotated[int, Field(ge=0, le=100)]
    cycle: Annotated[int, Field(ge=1, le=10**9)] | None = None
    cycles: Annotated[int, Field(ge=1, le=10**9)] | None = None
    version: str | None = None
    skipped: Annotated[str, Field(max_length=512)] | None = None
    """Why the node closed the cycle without its reports."""


class UploadPayload(Payload):
    """POST /model_upload: a question before an upload is stored, or with `result` how the upload ended."""

    model_id: Id
    version: Id
    address: str | None = None
    token: str | None = None
    result: Literal["stored", "exists"] | None = None


AnyPayload = TypeVar("AnyPayload", bound=Payload)


def parsed(request: Request, payload: type[AnyPayload]) -> AnyPayload:
    """Parse the body, whatever its content type says.

    Raises InvalidRequest; werkzeug's UnsupportedMediaType and RequestEntityTooLarge.
    """
    if request.content_encoding not in (None, "", "identity"):
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")
    body, length = request.get_data(), request.content_length
    if length is None and len(body) == request.max_content_length:  # werkzeug cuts chunked bodies off
        raise RequestEntityTooLarge
    if len(body) < (length or 0):
        raise InvalidRequest("The body is shorter than its Content-Length.")
    try:
        return payload.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    if any(fault["type"] == "json_invalid" for fault in faults):
        return "The body must be a JSON object."
    parts = (f"{'.'.join(map(str, fault['loc'])) or 'body'}: {fault['msg']}" for fault in faults[:5])
    return "; ".join(parts) + "."
