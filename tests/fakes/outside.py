"""Fakes of other ports: tokens, secrets, databases, and the bucket."""

from collections.abc import Iterable
from urllib.parse import quote

from orchestration.domain.credentials import hash_of
from orchestration.domain.entities import Caller, Model
from orchestration.domain.errors import Unauthenticated, Upstream
from orchestration.domain.node import Node
from orchestration.domain.ports import ModelForm, NodeCredential, NodeSecret, State


class FakeTokens:
    """Accepts each known username as a token."""

    def __init__(self, *usernames: str) -> None:
        self.usernames = set(usernames)

    def verify(self, token: str) -> Caller:
        if token not in self.usernames:
            raise Unauthenticated("The token's signature doesn't hold.")
        return Caller(token)


class FakeSecrets:
    """Secrets Manager: one secret per generation of a node; `passwords` are those in the secrets."""

    def __init__(self) -> None:
        self.passwords: dict[tuple[str, int], str] = {}
        self.made = 0

    def ensure(self, node: Node) -> NodeSecret:
        name = (node.node_id, node.generation)
        if name not in self.passwords:
            self.made += 1
            self.passwords[name] = f"secret {self.made} of {name}"
        url = f"postgresql://{self.passwords[name]}@cluster.test/"
        return NodeSecret(f"arn:secret:{name}", hash_of(self.passwords[name]), url)

    def credential(self, node: Node) -> NodeCredential:
        name = (node.node_id, node.generation)
        if name not in self.passwords:
            raise Upstream("Secrets Manager refused a call: ResourceNotFoundException.")
        return NodeCredential(node.node_id, self.passwords[name])

    def discard(self, node: Node) -> None:
        self.passwords.pop((node.node_id, node.generation), None)

    def all(self) -> Iterable[tuple[str, int]]:
        return list(self.passwords)


class FakeNodeDatabases:
    """The nodes' databases: generation and URL of each login. `trouble` is raised while it is set."""

    def __init__(self) -> None:
        self.logins: dict[str, tuple[int, str]] = {}
        self.trouble: Exception | None = None

    def new_url(self, node: Node) -> str:
        return f"postgresql://{node.node_id}:{node.generation}@cluster.test/"

    def ensure(self, node: Node, database_url: str) -> None:
        if self.trouble is not None:
            raise self.trouble
        known = self.logins.get(node.node_id, (0, ""))
        self.logins[node.node_id] = max(known, (node.generation, database_url))

    def discard(self, node: Node) -> None:
        self.logins.pop(node.node_id, None)

    def all(self) -> Iterable[str]:
        if self.trouble is not None:
            raise self.trouble
        return sorted(self.logins)


class FakeBucket:
    """The bucket of trained models. While `away`, it does not answer."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.away = False

    def store(self, model: Model, state: State) -> None:
        if self.away:
            raise Upstream("S3 did not answer.")
        self.files[model.model_id] = bytes(state)

    def fresh_url(self, model_id: str, form: ModelForm) -> str:
        return f"https://bucket.test/{quote(model_id, safe='')}/{form}?presigned"
