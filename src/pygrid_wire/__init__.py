"""Messages and codecs of the PyGrid protocol: states (models and diffs) and plans. Needs no syft or torch."""

from pygrid_wire.plan import MalformedPlan, PlanForms, parse_plan, plan_forms
from pygrid_wire.state import MalformedState, decode_state, decode_tensors, encode_state, encode_tensors
from pygrid_wire.tensor import Bytes, Tensor

__all__ = [
    "Bytes",
    "MalformedPlan",
    "MalformedState",
    "PlanForms",
    "Tensor",
    "decode_state",
    "decode_tensors",
    "encode_state",
    "encode_tensors",
    "parse_plan",
    "plan_forms",
]
