"""DynamoDB's expressions: parsed once each, and evaluated on items of Python values. Unknown ones raise."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import combinations
from typing import Any

from boto3.dynamodb.types import DYNAMODB_CONTEXT

Item = dict[str, Any]
Tree = tuple[Any, ...]
"""An operator and its operands; the leaves are `("path", names)` and `("value", placeholder)`."""

TOKENS = re.compile(r"[#:]?\w+|<>|<=|>=|\S")
PLACEHOLDERS = re.compile(r"[#:]\w+")
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}
ORDERED = ("S", "N", "B")
KINDS = {bool: "BOOL", type(None): "NULL", str: "S", Decimal: "N", bytes: "B", dict: "M", list: "L"}
ATOMS = frozenset({bool, type(None), str, Decimal, bytes})
MISSING = object()

WRONG_TYPE = "An operand in the update expression has an incorrect data type"
PREDICATES = ("attribute_exists", "attribute_not_exists", "attribute_type", "begins_with", "contains")

_sums = DYNAMODB_CONTEXT.copy()
_sums.clear_traps()


class Invalid(Exception):
    """DynamoDB answers a ValidationException with this text."""


def kind_of(value: object) -> str:
    """Return DynamoDB's letters for the type of a stored value."""
    return f"{kind_of(next(iter(value)))}S" if isinstance(value, set) else KINDS[type(value)]


def stored(value: Any) -> Any:
    """Return a copy of a value as DynamoDB stores it. Raises boto3's errors, or Invalid."""
    match value:
        case bool() | None:
            return value
        case str():
            return str(value)  # not a StrEnum
        case int() | Decimal():
            return _in_range(DYNAMODB_CONTEXT.create_decimal(value))
        case bytes():
            return value
        case list() | tuple():
            return [stored(part) for part in value]
        case dict():
            return {str(name): stored(part) for name, part in value.items()}
        case set() | frozenset():
            parts = {stored(part) for part in value}
            if not parts:
                raise Invalid("One or more parameter values were invalid: An set may not be empty")
            if len({kind_of(part) for part in parts}) == 1:
                return parts
    raise TypeError(f"Unsupported type {type(value)!r} for value {value!r}")


def copied(value: Any) -> Any:
    """Return a deep copy of a stored value."""
    kind = type(value)
    if kind is dict:
        return {name: part if type(part) in ATOMS else copied(part) for name, part in value.items()}
    if kind is list:
        return [part if type(part) in ATOMS else copied(part) for part in value]
    return set(value) if kind is set else value


@cache
def parse_condition(text: str) -> Tree:
    """Return the tree of a condition, filter, or key condition."""
    parser = _Parser(text)
    return parser.whole(parser.disjunction())


@cache
def parse_update(text: str) -> tuple[tuple[str, tuple[str, ...], Tree | None], ...]:
    """Return an update's actions: SET, REMOVE, ADD or DELETE, a path, and the operand."""
    parser = _Parser(text)
    return parser.whole(tuple(parser.actions()))


@cache
def placeholders(*texts: str) -> frozenset[str]:
    """Return the names and values that expressions use."""
    return frozenset(place for text in texts for place in PLACEHOLDERS.findall(text))


@dataclass(frozen=True, slots=True)
class Scope:
    """An item, and the values of an expression's placeholders."""

    item: Mapping[str, Any]
    names: Mapping[str, str]
    values: Mapping[str, Any]

    def holds(self, condition: Tree) -> bool:
        """Evaluate a condition. A comparison with a missing value, or of two types, is false."""
        match condition:
            case ("AND", one, other):
                return self.holds(one) and self.holds(other)
            case ("OR", one, other):
                return self.holds(one) or self.holds(other)
            case ("NOT", one):
                return not self.holds(one)
            case ("attribute_exists", path):
                return self.value(path) is not MISSING
            case ("attribute_not_exists", path):
                return self.value(path) is MISSING
            case ("attribute_type", path, kind):
                found = self.value(path)
                return found is not MISSING and kind_of(found) == self.value(kind)
            case (operator, one, other):
                return _compare(operator, self.value(one), self.value(other))
        raise NotImplementedError(condition)

    def value(self, operand: Tree) -> Any:
        """Evaluate an operand; MISSING where there is no such attribute."""
        match operand:
            case ("value", place):
                return self.values[place]
            case ("path", path):
                return self._at(path)
            case ("size", one):
                found = self.value(one)
                return MISSING if found is MISSING else Decimal(len(found))
            case ("if_not_exists", path, other):
                found = self.value(path)
                return self.value(other) if found is MISSING else found
            case ("list_append", one, other):
                return self._typed(one, "L") + self._typed(other, "L")
            case ("+", one, other):
                return added(self._typed(one, "N"), self._typed(other, "N"))
            case ("-", one, other):
                return added(self._typed(one, "N"), -self._typed(other, "N"))
        raise NotImplementedError(operand)

    def _at(self, path: tuple[str, ...]) -> Any:
        found: Any = self.item
        for place in path:
            found = found.get(self.names[place], MISSING) if isinstance(found, Mapping) else MISSING
        return found

    def _typed(self, operand: Tree, kind: str) -> Any:
        value = self.value(operand)
        if value is MISSING:
            raise Invalid("The provided expression refers to an attribute that does not exist in the item")
        if kind_of(value) != kind:
            raise Invalid(WRONG_TYPE)
        return value


def _compare(operator: str, one: Any, other: Any) -> bool:
    if one is MISSING or other is MISSING:
        return operator == "<>"
    kinds = kind_of(one), kind_of(other)
    match operator:
        case "=" | "<>":
            return (kinds[0] == kinds[1] and one == other) is (operator == "=")
        case "begins_with":
            return kinds == ("S", "S") and one.startswith(other)
        case "contains":
            is_within = kinds == ("S", "S") or kinds[0] == "L" or kinds[0] == f"{kinds[1]}S"
            return is_within and other in one
    return kinds[0] == kinds[1] in ORDERED and COMPARISONS[operator](one, other)


def update(scope: Scope, text: str) -> Item:
    """Return the item after an update. Every action reads the item as it was before."""
    actions = parse_update(text)
    paths = [tuple(scope.names[place] for place in path) for _, path, _ in actions]
    if len({path[0] for path in paths}) < len(paths):
        for one, other in combinations(paths, 2):
            if one[: len(other)] == other[: len(one)]:
                raise Invalid("Two document paths overlap with each other")
    item = dict(scope.item)
    for (action, place, operand), path in zip(actions, paths, strict=True):
        holder = item
        for name in path[:-1]:
            if not isinstance(holder.get(name), dict):
                raise Invalid("The document path provided in the update expression is invalid for update")
            holder[name] = holder = dict(holder[name])
        new = _new_value(scope, action, ("path", place), operand)
        if new is MISSING:
            holder.pop(path[-1], None)
        else:
            holder[path[-1]] = new
    return item


def _new_value(scope: Scope, action: str, path: Tree, operand: Tree | None) -> Any:
    if operand is None:
        return MISSING
    value, before = scope.value(operand), scope.value(path)
    if action == "SET":
        if value is MISSING:
            raise Invalid("The provided expression refers to an attribute that does not exist in the item")
        return value
    kinds = {kind_of(part) for part in (value, before) if part is not MISSING}
    is_number = kinds == {"N"} and action == "ADD"
    if not is_number and (len(kinds) > 1 or not isinstance(value, set)):
        raise Invalid(WRONG_TYPE)
    if action == "ADD":
        return value if before is MISSING else added(before, value) if is_number else before | value
    return MISSING if before is MISSING else before - value or MISSING


def added(one: Decimal, other: Decimal) -> Decimal:
    """Return the sum, rounded to 38 digits."""
    return _in_range(_sums.add(one, other))


def _in_range(number: Decimal) -> Decimal:
    if not number.is_finite():
        raise TypeError("Infinity and NaN not supported")
    if number.adjusted() > 125:
        raise Invalid("Number overflow. Attempting to store a number that is too large")
    return number


class _Parser:
    """Accepts only placeholders as names and values, because a written-out name may be a reserved word."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [*TOKENS.findall(text), ""]
        self._at = 0

    def whole(self, parsed: Any) -> Any:
        """Return the parsed tree if no token is left."""
        return parsed if self._next() == "" else self._unknown()

    def disjunction(self) -> Tree:
        found = self._conjunction()
        while self._took("OR"):
            found = ("OR", found, self._conjunction())
        return found

    def actions(self) -> Any:
        while self._next():
            action = self._take()
            if action not in ("SET", "REMOVE", "ADD", "DELETE"):
                self._unknown()
            yield self._action(action)
            while self._took(","):
                yield self._action(action)

    def _action(self, action: str) -> Tree:
        path = self._path()[1]
        if action == "REMOVE":
            return (action, path, None)
        if action == "SET":
            self._expect("=")
        return (action, path, self._sum())

    def _sum(self) -> Tree:
        found = self._operand()
        return (self._take(), found, self._operand()) if self._next() in ("+", "-") else found

    def _conjunction(self) -> Tree:
        found = self._negation()
        while self._took("AND"):
            found = ("AND", found, self._negation())
        return found

    def _negation(self) -> Tree:
        if self._took("NOT"):
            return ("NOT", self._negation())
        if self._took("("):
            found = self.disjunction()
            self._expect(")")
            return found
        if self._next() in PREDICATES:
            return self._function()
        one, operator = self._operand(), self._take()
        return (operator, one, self._operand()) if operator in ("=", "<>", *COMPARISONS) else self._unknown()

    def _operand(self) -> Tree:
        if self._next().startswith(":"):
            return ("value", self._take())
        if self._next() in ("size", "if_not_exists", "list_append"):
            return self._function()
        return self._path()

    def _function(self) -> Tree:
        name = self._take()
        self._expect("(")
        operands = [self._operand()]
        while self._took(","):
            operands.append(self._operand())
        self._expect(")")
        return (name, *operands)

    def _path(self) -> Tree:
        places = [self._take()]
        while self._took("."):
            places.append(self._take())
        return ("path", tuple(places)) if all(p.startswith("#") for p in places) else self._unknown()

    def _next(self) -> str:
        return self._tokens[self._at]

    def _take(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _took(self, token: str) -> bool:
        found = self._next() == token
        self._at += found
        return found

    def _expect(self, token: str) -> None:
        if not self._took(token):
            self._unknown()

    def _unknown(self) -> Any:
        raise NotImplementedError(f"{self._next()!r} in {self._text!r}")
