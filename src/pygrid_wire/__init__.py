"""Messages and codecs of the PyGrid protocol: states (models and diffs) and plans. Needs no syft or torch."""

from pygrid_wire.plan import MalformedPlan, PlanForms, has_torchscript, parse_plan, plan_forms
from pygrid_wire.state import (
    MalformedState,
    decode_state,
    decode_tensors,
    encode_state,
    encode_tensors,
    parse_state,
)
from pygrid_wire.tensor import Bytes, EncodedTensor, MalformedTensor, Tensor, number_sizes

__all__ = [
    "Bytes",
    "EncodedTensor",
    "MalformedPlan",
    "MalformedState",
    "MalformedTensor",
    "PlanForms",
    "Tensor",
    "decode_state",
    "decode_tensors",
    "encode_state",
    "encode_tensors",
    "has_torchscript",
    "number_sizes",
    "parse_plan",
    "parse_state",
    "plan_forms",
]
