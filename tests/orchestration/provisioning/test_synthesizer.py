import json
import subprocess
import sys

import pytest

from orchestration.domain.errors import StackFailed
from orchestration.provisioning import synthesizer
from orchestration.provisioning.synthesizer import TemplateName, load_template, synthesize, write_snapshots


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """No snapshot is there."""
    monkeypatch.setattr(synthesizer, "SNAPSHOTS", tmp_path / "templates")
    return tmp_path / "templates"


@pytest.fixture
def no_cdk(monkeypatch):
    """The image that runs the service."""
    monkeypatch.setattr(synthesizer.importlib.util, "find_spec", lambda _: None)


def test_a_snapshot_is_loaded_without_the_cdk(no_cdk):
    """The web process never starts Node.js."""
    assert "NodeId" in load_template(TemplateName.NODE)["Parameters"]


def test_nothing_but_the_child_process_imports_the_cdk():
    """Importing it starts Node.js: a second of time, hundreds of megabytes, unsafe threads."""
    imports = "from orchestration.provisioning import orchestration_helper, deploy, synthesizer"
    code = f"import sys; {imports}; import orchestration.stacks.cdk_app; sys.exit('aws_cdk' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603


def test_without_snapshot_and_cdk_the_error_says_what_to_install(folder, no_cdk):
    """Not a traceback of a module that nobody has heard of."""
    with pytest.raises(StackFailed, match="install the extra `cdk`"):
        load_template(TemplateName.NODE)


def test_without_snapshot_it_is_synthesized(folder, monkeypatch):
    """An operator who changed a stack may simply delete its snapshot."""
    made = {name: {"Description": str(name)} for name in TemplateName}
    monkeypatch.setattr(synthesizer, "synthesize", lambda _: made)

    assert load_template(TemplateName.NODE) == {"Description": "node"}


def test_a_context_asks_for_another_template_than_the_snapshot(monkeypatch):
    """The snapshot is of the default only."""
    monkeypatch.setattr(synthesizer, "synthesize", lambda context: {TemplateName.CLUSTER: dict(context)})

    assert load_template(TemplateName.CLUSTER, {"nat": "1"}) == {"nat": "1"}


def test_snapshots_are_written_to_be_compared(folder, monkeypatch):
    """Sorted, indented, a newline at the end: a change shows as the lines that changed."""
    monkeypatch.setattr(synthesizer, "synthesize", lambda: {name: {"b": 1, "a": 2} for name in TemplateName})

    paths = write_snapshots()

    assert [path.name for path in paths] == ["cluster.json", "data.json", "node.json", "orchestration.json"]
    assert paths[0].read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


@pytest.fixture
def child(monkeypatch):
    """Run this program instead of the CDK app."""

    def runs(*code):
        real = subprocess.run
        monkeypatch.setattr(
            synthesizer.subprocess, "run", lambda _, **more: real([sys.executable, "-c", *code], **more)
        )

    return runs


def test_a_failed_synthesis_shows_what_the_cdk_said(child):
    """Its last words are the only clue."""
    child("import sys; sys.exit('the subnet is missing')")

    with pytest.raises(StackFailed, match="could not synthesize the templates:\nthe subnet is missing"):
        synthesize()


def test_a_synthesis_that_hangs_is_given_up(child, monkeypatch):
    """Node.js may wait for ever."""
    monkeypatch.setattr(synthesizer, "_DEADLINE", 0.1)
    child("import time; time.sleep(60)")

    with pytest.raises(StackFailed, match=r"within 0\.1 s"):
        synthesize()


def test_the_child_is_told_what_the_cdk_command_tells_it(child):
    """Context and directory by environment; the node stack always, since its template is wanted."""
    program = (
        "import os, json\n"
        "folder, context = os.environ['CDK_OUTDIR'], json.loads(os.environ['CDK_CONTEXT_JSON'])\n"
        "for name in ('cluster', 'data', 'node', 'orchestration'):\n"
        "    json.dump(context, open(f'{folder}/artificien-{name}.template.json', 'w'))"
    )
    child(program)

    assert synthesize({"nat": "1"})[TemplateName.NODE] == {"nat": "1", "node": "1"}


@pytest.mark.parametrize(
    ("variables", "found"),
    [({"PATH": ""}, True), ({"PATH": "", "JSII_NODE": "/opt/node"}, False)],
)
def test_node_js_comes_from_pypi_where_the_machine_has_none(monkeypatch, variables, found):
    """Unless the operator names one."""
    monkeypatch.delenv("JSII_NODE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert (synthesizer._node_executable() is not None) is found


def test_without_any_node_js_the_cdk_is_left_to_complain(monkeypatch, no_cdk):
    """It names what it looked for."""
    monkeypatch.delenv("JSII_NODE", raising=False)
    monkeypatch.setenv("PATH", "")

    assert synthesizer._node_executable() is None


@pytest.mark.synth
@pytest.mark.parametrize("path", ["as it is", "empty"])
def test_synthesizing_again_gives_the_snapshots(monkeypatch, path):
    """A stack class and its snapshot change in one commit: `artificien synth`. Node.js may come from PyPI."""
    if path == "empty":
        monkeypatch.setenv("PATH", "")

    assert synthesize() == {name: json.loads(name.snapshot.read_text()) for name in TemplateName}


@pytest.mark.synth
def test_a_cluster_with_nat_runs_its_tasks_in_private_subnets():
    """One gateway, no public address; everything else as without."""
    template = synthesize({"nat": "1"})[TemplateName.CLUSTER]
    plain = load_template(TemplateName.CLUSTER)
    types = [resource["Type"] for resource in template["Resources"].values()]

    assert types.count("AWS::EC2::NatGateway") == 1
    assert template["Outputs"].keys() == plain["Outputs"].keys()
    assert template["Outputs"]["AssignPublicIp"]["Value"] == "DISABLED"
    assert template["Outputs"]["NodeSubnetA"] != template["Outputs"]["PublicSubnetA"]
