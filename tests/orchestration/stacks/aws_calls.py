"""Finds the calls of AWS that a process can make, by following its objects from the composition root.

It reads the source of each object's class: a call on a boto3 client is a call of AWS; a call on a `Table`
stands for the calls of that method; a call on another object of this service leads to its class. Of each
object only the called methods count. Nothing is executed, so the result doesn't depend on a test's coverage.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MethodType

from botocore.client import BaseClient

from orchestration import api
from orchestration.adapters.dynamo import Table

Call = tuple[str, str]
"""An action as IAM names it, and the table or index it is on, or nothing where that isn't DynamoDB."""

Methods = frozenset[str] | None
"""Which methods of an object are called; None for any."""


def calls_of(root: object) -> set[Call]:
    """Return all calls of AWS that an object and its parts can make."""
    return {call for view in reachable(root) for call in view.calls()}


def reachable(root: object) -> list["View"]:
    """Return all reachable objects of this service, with the methods that are called on them."""
    seen: dict[tuple[int, Methods], View] = {}
    waiting = [View(root, None)]
    while waiting:
        view = waiting.pop()
        key = (id(view.owner), view.methods)
        if key not in seen and type(view.owner).__module__.startswith("orchestration."):
            seen[key] = view
            waiting += view.parts()
    return list(seen.values())


@dataclass(frozen=True)
class View:
    """An object, restricted to some of its methods."""

    owner: object
    methods: Methods

    def calls(self) -> Iterator[Call]:
        """Return the calls of AWS that these methods make themselves."""
        if isinstance(self.owner, Table):
            return  # the calls depend on the methods that the table's owner calls
        for name, part in _fields(self.owner).items():
            if isinstance(part, BaseClient):
                for call in self._calls_on(name):
                    yield from ((action, "") for action in _actions(part, call))
            if isinstance(part, Table):
                for call in self._calls_on(name):
                    places = self._places(part, call)
                    yield from ((action, p) for action in _of_table(part, _method(call)) for p in places)

    def parts(self) -> Iterator["View"]:
        """Return the objects that these methods use or pass on."""
        for name, part in _fields(self.owner).items():
            mentions = [n for n in self._nodes() if isinstance(n, ast.Attribute) and _is_own(n, name)]
            if not mentions and self.methods is not None:
                continue
            if isinstance(part, MethodType):
                yield View(part.__self__, frozenset({part.__name__}))
                continue
            called = frozenset(_method(call) for call in self._calls_on(name))
            is_all = len(mentions) != len(self._calls_on(name)) or not mentions
            yield View(part, None if is_all else called)

    def _nodes(self) -> list[ast.AST]:
        if isinstance(self.owner, api.Services):
            return [node for view in _views() for node in ast.walk(view)]
        bodies = _methods_of(type(self.owner))
        if self.methods is None:
            return [node for body in bodies.values() for node in ast.walk(body)]
        assert self.methods <= bodies.keys(), f"{self.owner}: no {self.methods - bodies.keys()}"
        names = set(self.methods)
        while True:
            nodes = [node for name in names for node in ast.walk(bodies[name])]
            own = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"}
            if own & bodies.keys() <= names:
                return nodes
            names |= own & bodies.keys()

    def _calls_on(self, field: str) -> list[ast.Call]:
        return [
            node
            for node in self._nodes()
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and _is_own(node.func.value, field)
        ]

    def _places(self, table: Table, call: ast.Call) -> list[str]:
        index = ast.unparse(call.args[0]) if call.args else "None"
        if _method(call) not in ("query", "scan") or index == "None":
            return [table.name]
        if isinstance(call.args[0], ast.Constant):
            return [f"{table.name}/{call.args[0].value}"]
        written = " ".join(map(ast.unparse, self._nodes()))
        indexes = set(re.findall(r"[\"']([\w-]+[-_]index)[\"']", written))
        assert indexes, f"{type(self.owner).__name__} queries no index?"
        return [f"{table.name}/{index}" for index in indexes]


def _of_table(table: Table, method: str) -> set[str]:
    """Return the actions of a method of `Table`, including those of methods that it calls."""
    view = View(table, frozenset({method}))
    return {action for call in view._calls_on("client") for action in _actions(table.client, call)}


def _actions(client: BaseClient, call: ast.Call) -> set[str]:
    """Return the actions that AWS authorizes for a call: its operation, or the parts of a transaction."""
    method = _method(call)
    constants = [n.value for n in ast.walk(call) if isinstance(n, ast.Constant)]
    if method == "transact_write_items":
        parts = {"ConditionCheck", "Delete", "Put", "Update"} & set(constants)
        assert parts, "a transaction of what?"
        return {f"dynamodb:{part}Item" for part in parts}
    if method in ("get_paginator", "get_waiter", "generate_presigned_url"):
        method = constants[0]
    operation = client.meta.method_to_api_mapping[method]
    return {f"{client.meta.service_model.signing_name}:{operation}"}


def _fields(owner: object) -> dict[str, object]:
    slots = [name for kind in type(owner).__mro__ for name in getattr(kind, "__slots__", ())]
    return getattr(owner, "__dict__", {}) | {name: getattr(owner, name) for name in slots}


@cache
def _views() -> list[ast.Module]:
    """Return the modules of the api, whose views use `services()` as other classes use `self`."""
    folder = Path(inspect.getfile(api)).parent
    return [ast.parse(path.read_text(encoding="utf-8")) for path in folder.glob("*.py")]


@cache
def _methods_of(kind: type) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def _is_own(node: ast.expr, field: str) -> bool:
    return ast.unparse(node) in (f"self.{field}", f"services().{field}")


def _method(call: ast.Call) -> str:
    assert isinstance(call.func, ast.Attribute)
    return call.func.attr
