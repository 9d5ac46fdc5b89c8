import threading

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from local_platform import ecs_agent as agent
from local_platform.containers import Container, Service, UnrunnableError
from local_platform.ecs_agent import Agent, Plan, plan, serve

FIRST = Service("arn:first", "task:1", ("group",))
NEWER = Service("arn:first", "task:2", ("group",))
SECOND = Service("arn:second", "task:7", ("group",))


@pytest.mark.parametrize(
    ("wanted", "running", "refused", "expected"),
    [
        pytest.param([], {}, {}, Plan(), id="nothing"),
        pytest.param([FIRST], {}, {}, Plan(starts=(FIRST,)), id="new"),
        pytest.param([FIRST], {"arn:first": "task:1"}, {}, Plan(), id="as it should be"),
        pytest.param([], {"arn:first": "task:1"}, {}, Plan(stops=("arn:first",)), id="gone"),
        pytest.param(
            [NEWER],
            {"arn:first": "task:1"},
            {},
            Plan(stops=("arn:first",), starts=(NEWER,)),
            id="another definition",
        ),
        pytest.param([FIRST], {}, {"arn:first": "task:1"}, Plan(), id="refused lately"),
        pytest.param([NEWER], {}, {"arn:first": "task:1"}, Plan(starts=(NEWER,)), id="refused, then mended"),
        pytest.param(
            [FIRST, SECOND],
            {"arn:second": "task:7", "arn:third": "task:3"},
            {},
            Plan(stops=("arn:third",), starts=(FIRST,)),
            id="several",
        ),
    ],
)
def test_plan(wanted, running, refused, expected):
    """What ECS wants and what runs, compared."""
    assert plan(wanted, running, refused) == expected


class FakeEcs:
    """An ECS that a test sets up."""

    def __init__(self):
        self.services = [FIRST]
        self.image = "artificien/pygrid-node:local"
        self.failure = None

    def wanted(self):
        if self.failure:
            raise self.failure
        return self.services

    def container(self, _definition):
        return Container(
            "node", self.image, {"NODE_ID": "n1", "PORT": "5000"}, {"DATABASE_URL": "arn:::key::"}
        )

    def secret(self, reference):
        return f"value of {reference}"

    def address(self, _service):
        return "127.1.2.3"


class FakeSupervisor:
    """Remembers what it was told."""

    def __init__(self):
        self.programs = {}

    def start(self, program):
        self.programs[program.name] = program

    def stop(self, name):
        del self.programs[name]


@pytest.fixture
def ecs():
    return FakeEcs()


@pytest.fixture
def supervisor():
    return FakeSupervisor()


@pytest.fixture
def an_agent(ecs, supervisor, tmp_path):
    return Agent(ecs, supervisor, tmp_path, {"artificien/pygrid-node": ("run-node",)})


def test_container_runs_with_its_secrets_on_the_balancers_address(
    an_agent, supervisor, tmp_path, monkeypatch
):
    """As ECS would start it, but for the address."""
    monkeypatch.setenv("AWS_PROFILE", "production")
    an_agent.poll()
    program = supervisor.programs["arn:first"]

    assert program.command == ("run-node",)
    assert program.environment["DATABASE_URL"] == "value of arn:::key::"
    assert (program.environment["BIND_HOST"], program.environment["PORT"]) == ("127.1.2.3", "5000")
    assert program.log == tmp_path / "n1.log"
    assert "AWS_PROFILE" not in program.environment


def test_container_is_started_once(an_agent, supervisor):
    """Every further poll finds it running."""
    an_agent.poll()
    started = supervisor.programs["arn:first"]
    an_agent.poll()

    assert supervisor.programs["arn:first"] is started


def test_container_stops_with_its_service(an_agent, ecs, supervisor):
    """The stack is gone."""
    an_agent.poll()
    ecs.services = []
    an_agent.poll()

    assert supervisor.programs == {}


def test_unknown_image_stays_down_and_is_named(an_agent, ecs, supervisor, capsys):
    """Somebody deployed what can't run here."""
    ecs.image = "nginx:latest"
    an_agent.poll()

    assert supervisor.programs == {}
    assert "nginx:latest" in capsys.readouterr().out


def test_service_that_could_not_start_does_not_hold_up_the_others(an_agent, ecs, supervisor, monkeypatch):
    """A secret may be missing for one node only."""
    missing = ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": ""}}, "GetSecretValue")
    ecs.services = [FIRST, SECOND]
    monkeypatch.setattr(ecs, "container", fail_for(FIRST.definition, missing, ecs.container))
    an_agent.poll()

    assert list(supervisor.programs) == ["arn:second"]


def fail_for(definition, error, otherwise):
    def container(asked):
        if asked == definition:
            raise error
        return otherwise(asked)

    return container


def test_service_that_could_not_start_is_tried_again_later(an_agent, ecs, supervisor, monkeypatch):
    """And not at every poll."""
    tries = []
    normal = ecs.address

    def address(service):
        tries.append(service)
        if len(tries) == 1:
            raise UnrunnableError("not yet")
        return normal(service)

    monkeypatch.setattr(ecs, "address", address)
    an_agent.poll()
    an_agent.poll()
    before = len(tries)
    now = agent.time.monotonic() + agent.RETRY_INTERVAL
    monkeypatch.setattr(agent.time, "monotonic", lambda: now)
    an_agent.poll()

    assert before == 1
    assert list(supervisor.programs) == ["arn:first"]


def test_node_runs_on_while_aws_is_away(an_agent, ecs, supervisor, monkeypatch, capsys):
    """A poll that fails changes nothing, and is logged."""
    monkeypatch.setattr(agent, "POLL_INTERVAL", 0.001)
    an_agent.poll()
    ecs.failure = EndpointConnectionError(endpoint_url="http://127.0.0.1:5055")
    stopped, polls = threading.Event(), []
    failing = ecs.wanted

    def wanted():
        polls.append(1)
        if len(polls) == 3:
            stopped.set()
        return failing()

    monkeypatch.setattr(ecs, "wanted", wanted)
    serve(an_agent, stopped)

    assert len(polls) == 3
    assert list(supervisor.programs) == ["arn:first"]
    assert "EndpointConnectionError" in capsys.readouterr().out
