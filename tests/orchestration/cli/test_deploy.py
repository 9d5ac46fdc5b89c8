"""Commands that synthesize and deploy the stacks."""

import pytest
from click.testing import CliRunner

from orchestration.cli import main
from orchestration.provisioning import deploy, synthesizer
from orchestration.provisioning.synthesizer import TemplateName, load_template

SHAPE = ("NodeCpu", "NodeMemory", "NodeSpot", "NodeReadOnly", "NodeMinReports", "UploadBinding")


@pytest.mark.parametrize(("flags", "nat"), [((), False), (("--nat",), True)])
def test_deploying_the_cluster_prints_its_outputs(environment, run, flags, nat):
    """Sorted by name."""
    calls = []

    def deployed(_client, name, *, nat):
        calls.append((name, nat))
        return {"B": "2", "A": "1"}

    environment.setattr(deploy, "deploy_cluster", deployed)
    result = run("cluster", "deploy", *flags)

    assert result.output == "A\t1\nB\t2\n"
    assert calls == [("artificien-cluster", nat)]


def test_deploying_the_data_prints_its_outputs(environment, run):
    """The bucket's name is one of them."""
    environment.setattr(deploy, "deploy_data", lambda _: {"ModelBucketName": "models"})

    assert run("data", "deploy").output == "ModelBucketName\tmodels\n"


def test_synth_prints_the_written_paths(monkeypatch, run, tmp_path):
    """One path per line."""
    monkeypatch.setattr(synthesizer, "write_snapshots", lambda: [tmp_path / "a.json", tmp_path / "b.json"])

    assert run("synth").output == f"{tmp_path}/a.json\n{tmp_path}/b.json\n"


def test_command_passes_all_required_parameters(monkeypatch):
    """Parameters without an option have a default."""
    deployed = []
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(
        deploy, "deploy_service", lambda _, parameters: deployed.append(parameters) or {"A": "b"}
    )
    parameters = load_template(TemplateName.ORCHESTRATION)["Parameters"]
    required = {n for n, p in parameters.items() if "Default" not in p}
    options = ("--image", "--node-image", "--user-pool-id", "--app-client-ids")
    arguments = [argument for option in options for argument in (option, option)]

    result = CliRunner().invoke(main, ["service", "deploy", *arguments])

    assert (result.exit_code, result.output) == (0, "A\tb\n")
    assert required <= deployed[0].keys() <= parameters.keys()
    assert deployed[0]["ClusterStack"] == "artificien-cluster"
    assert [deployed[0][name] for name in SHAPE] == ["512", "2048", "false", "true", "10", "address"]


def test_command_passes_the_shape_of_nodes(monkeypatch):
    """Size, capacity provider and whether files are writable."""
    deployed = []
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(deploy, "deploy_service", lambda _, parameters: deployed.append(parameters) or {})
    required = ("--image", "--node-image", "--user-pool-id", "--app-client-ids")
    arguments = [argument for option in required for argument in (option, option)]
    shape = (
        "--node-cpu",
        "1024",
        "--node-memory",
        "8192",
        "--node-spot",
        "--node-writable",
        "--node-min-reports",
        "1",
        "--upload-binding",
        "token",
    )

    CliRunner().invoke(main, ["service", "deploy", *arguments, *shape])

    assert [deployed[0][name] for name in SHAPE] == ["1024", "8192", "true", "false", "1", "token"]


def test_node_image_defaults_to_the_service_s_repository(monkeypatch):
    """Its tag is `node`; an operator may name another image."""
    deployed = []
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(deploy, "deploy_service", lambda _, parameters: deployed.append(parameters) or {})
    arguments = ("--image", "registry.test:443/a/b:latest", "--user-pool-id", "p", "--app-client-ids", "c")

    for more in ((), ("--node-image", "registry.test/pygrid:1")):
        CliRunner().invoke(main, ["service", "deploy", *arguments, *more])

    assert [parameters["NodeImage"] for parameters in deployed] == [
        "registry.test:443/a/b:node",
        "registry.test/pygrid:1",
    ]


def test_command_refuses_unknown_cpu_sizes(monkeypatch):
    """Before any call of AWS."""
    result = CliRunner().invoke(main, ["service", "deploy", "--node-cpu", "700"])

    assert result.exit_code == 2
    assert "'256', '512', '1024', '2048', '4096'" in result.output
