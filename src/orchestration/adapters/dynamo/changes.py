"""A change of one item in DynamoDB's words: update and condition expressions with their placeholders."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to do to single attributes of an item, and under which condition."""

    put: Mapping[str, Any] = field(default_factory=dict)
    """New values; None removes."""
    put_inside: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    """Values of single names in a map that is there."""
    default: Mapping[str, Any] = field(default_factory=dict)
    """Values where there is none yet."""
    move: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """Other names for values, each with what is left behind."""
    add: Mapping[str, float] = field(default_factory=dict)
    remove: Iterable[str] = ()
    when: ConditionBase | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the expressions, as `update_item` and an update among transactions take them."""
        words = _Words()
        for name, value in self.put.items():
            if value is None:
                words.remove(name)
            else:
                words.put((name,), value)
        for path, value in self.put_inside.items():
            words.put(path, value)
        for name, value in self.default.items():
            words.default(name, value)
        for source, (target, nothing) in self.move.items():
            words.move(source, target, nothing)
        for name, amount in self.add.items():
            words.add(name, amount)
        for name in self.remove:
            words.remove(name)
        return words.arguments(self.when)


class _Words:
    """Expressions in the making; placeholders begin with `u`, boto3's conditions use others."""

    def __init__(self) -> None:
        self.parts: dict[str, list[str]] = {"SET": [], "ADD": [], "REMOVE": []}
        self.names: dict[str, str] = {}
        self.values: dict[str, Any] = {}

    def put(self, path: tuple[str, ...], value: Any) -> None:
        self.parts["SET"].append(f"{'.'.join(map(self._name, path))} = {self._value(value)}")

    def default(self, name: str, value: Any) -> None:
        place = self._name(name)
        self.parts["SET"].append(f"{place} = if_not_exists({place}, {self._value(value)})")

    def move(self, source: str, target: str, nothing: Any) -> None:
        """All of SET sees the item as it was, so this can't lose what is added meanwhile."""
        place, empty = self._name(source), self._value(nothing)
        self.parts["SET"] += [f"{self._name(target)} = if_not_exists({place}, {empty})", f"{place} = {empty}"]

    def add(self, name: str, amount: float) -> None:
        self.parts["ADD"].append(f"{self._name(name)} {self._value(amount)}")

    def remove(self, name: str) -> None:
        self.parts["REMOVE"].append(self._name(name))

    def arguments(self, when: ConditionBase | None) -> dict[str, Any]:
        expression = " ".join(f"{word} {', '.join(parts)}" for word, parts in self.parts.items() if parts)
        arguments: dict[str, Any] = {"UpdateExpression": expression}
        names, values = self.names, self.values
        if when is not None:
            condition = ConditionExpressionBuilder().build_expression(when)
            arguments["ConditionExpression"] = condition.condition_expression
            names = names | condition.attribute_name_placeholders
            values = values | condition.attribute_value_placeholders
        arguments["ExpressionAttributeNames"] = names
        return arguments | ({"ExpressionAttributeValues": values} if values else {})

    def _name(self, name: str) -> str:
        place = f"#u{len(self.names)}"
        self.names[place] = name
        return place

    def _value(self, value: Any) -> str:
        place = f":u{len(self.values)}"
        self.values[place] = stored(value)
        return place


def stored(value: Any) -> Any:
    """DynamoDB takes decimals of 38 digits; the shortest text of a float has 17 at most."""
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, list | tuple):
        return [stored(part) for part in value]
    if isinstance(value, dict):
        return {name: stored(part) for name, part in value.items()}
    return value
