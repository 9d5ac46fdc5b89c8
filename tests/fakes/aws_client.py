"""Base of the fakes of boto3's clients. botocore's model validates parameters and responses."""

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, wraps
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import botocore.session
from botocore import xform_name
from botocore.errorfactory import ClientExceptionsFactory
from botocore.exceptions import ClientError, ParamValidationError, ReadTimeoutError
from botocore.model import ServiceModel, Shape
from botocore.paginate import Paginator, PaginatorModel
from botocore.validate import ParamValidator

Clock = Callable[[], float]
Answer = dict[str, Any]
Chance = float | Callable[[str], bool]

REGION = "us-east-1"
ACCOUNT = "000000000000"
_METADATA = {"HTTPStatusCode": 200, "RetryAttempts": 0}


class TokenBucket:
    """Throttles like AWS: `rates` maps an operation to its calls per second and its burst."""

    def __init__(self, clock: Clock, rates: Mapping[str, tuple[float, float]]) -> None:
        self._clock = clock
        self._rates = rates
        self._filled = {operation: (clock(), burst) for operation, (_, burst) in rates.items()}

    def __call__(self, operation: str) -> bool:
        """Return whether this call is throttled."""
        if operation not in self._rates:
            return False
        rate, burst = self._rates[operation]
        at, tokens = self._filled[operation]
        now = self._clock()
        tokens = min(burst, tokens + (now - at) * rate)
        self._filled[operation] = (now, tokens - 1 if tokens >= 1 else tokens)
        return tokens < 1


class FakeAwsClient:
    """A client of boto3 without a server: counts and throttles calls, and validates with botocore's model.

    `throttle` and `unanswered` are probabilities, or functions of an operation such as `describe_stacks`: the
    call is refused, or is carried out without a response. `calls` counts all calls, `throttled` those that
    were refused.
    """

    service: ClassVar[str]
    refusal_code: ClassVar[str]
    throttling_code: ClassVar[str]

    def __init__(
        self,
        clock: Clock,
        *,
        rng: random.Random | None = None,
        throttle: Chance = 0.0,
        unanswered: Chance = 0.0,
        validate: bool = True,
    ) -> None:
        model = _model(self.service)
        self.clock = clock
        self.rng = rng or random.Random(0)
        self.throttle = throttle
        self.unanswered = unanswered
        self.validate = validate
        self.calls: Counter[str] = Counter()
        self.throttled: Counter[str] = Counter()
        self.exceptions = _exceptions(self.service)
        self.meta = SimpleNamespace(
            service_model=model, region_name=REGION, method_to_api_mapping=_operations(self.service)
        )

    def get_paginator(self, operation: str) -> "Paginator[Any]":
        """Return botocore's paginator on this client."""
        name = self.meta.method_to_api_mapping[operation]
        config = _paginators(self.service).get_paginator(name)
        return Paginator(getattr(self, operation), config, self.meta.service_model.operation_model(name))

    def error(self, code: str, message: str, operation: str) -> ClientError:
        """Return boto3's error: of its own class where the service's model has one."""
        response: Any = {
            "Error": {"Type": "Sender", "Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        name = self.meta.method_to_api_mapping.get(operation, operation)
        kind = cast(type[ClientError], self.exceptions.from_code(code))
        return kind(response, name)

    def received(self, operation: str, params: Answer) -> None:
        """Count a call. Raises if its parameters are invalid or if it is throttled."""
        shape = _shape(self.service, operation, "input_shape") if self.validate else None
        if shape is not None:
            params = self.sent(params, shape)
            _check(params, shape)
        self.calls[operation] += 1
        if self._occurs(self.throttle, operation):
            self.throttled[operation] += 1
            raise self.error(self.throttling_code, "Rate exceeded", operation)
        violation = _violation(params, shape) if shape is not None else None
        if violation:
            raise self.error(self.refusal_code, f"1 validation error detected: {violation}", operation)

    def answered(self, operation: str, answer: Answer) -> Answer:
        """Return a response, or raise the time-out of a lost one."""
        if self._occurs(self.unanswered, operation):
            raise ReadTimeoutError(endpoint_url=f"https://{self.service}.{REGION}.amazonaws.com/")
        if self.validate:
            shape = _shape(self.service, operation, "output_shape")
            if shape is not None:
                _check(self.sent(answer, shape), shape)
        answer["ResponseMetadata"] = _METADATA
        return answer

    def sent(self, value: Answer, _shape: Shape) -> Answer:
        """Return the values on the wire, for a service whose callers use other values."""
        return value

    def _occurs(self, chance: Chance, operation: str) -> bool:
        if callable(chance):
            return chance(operation)
        return chance > 0 and self.rng.random() < chance


def operation(method: Callable[..., Answer]) -> Callable[..., Answer]:
    """Make a method an operation of the service: keyword arguments, validated, counted, throttled."""
    name = method.__name__

    @wraps(method)
    def call(self: FakeAwsClient, **params: Any) -> Answer:
        self.received(name, params)
        return self.answered(name, method(self, **params))

    return call


def _check(value: Answer, shape: Shape) -> None:
    report = ParamValidator().validate(value, shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())


def _violation(value: Any, shape: Any, name: str = "") -> str | None:
    """Return what the service refuses and botocore doesn't: patterns, maximum lengths, enumerations."""
    if shape.type_name == "structure":
        parts = ((value[n], part, n[0].lower() + n[1:]) for n, part in shape.members.items() if n in value)
        return next(filter(None, (_violation(*part) for part in parts)), None)
    if shape.type_name == "list":
        members = ((item, shape.member, f"{name}.{n}.member") for n, item in enumerate(value, 1))
        return next(filter(None, (_violation(*member) for member in members)), None)
    broken = _broken(value, shape) if shape.type_name == "string" else ""
    return (
        f"Value '{value}' at '{name}' failed to satisfy constraint: Member must {broken}" if broken else None
    )


def _broken(text: str, shape: Shape) -> str:
    rules = shape.metadata
    if "pattern" in rules and not re.fullmatch(rules["pattern"], text):
        return f"satisfy regular expression pattern: {rules['pattern']}"
    if len(text) > rules.get("max", len(text)):
        return f"have length less than or equal to {rules['max']}"
    if text not in rules.get("enum", (text,)):
        return f"satisfy enum value set: [{', '.join(rules['enum'])}]"
    return ""


@cache
def _model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


@cache
def _paginators(service: str) -> PaginatorModel:
    return botocore.session.get_session().get_paginator_model(service)


@cache
def _exceptions(service: str) -> Any:
    return ClientExceptionsFactory().create_client_exceptions(_model(service))


@cache
def _operations(service: str) -> dict[str, str]:
    return {xform_name(name): name for name in _model(service).operation_names}


@cache
def _shape(service: str, operation: str, side: str) -> Shape | None:
    return cast(Shape | None, getattr(_model(service).operation_model(_operations(service)[operation]), side))
