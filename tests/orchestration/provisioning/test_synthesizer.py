import importlib.util
import json
import subprocess
import sys

import pytest

from orchestration.domain.errors import StackFailed
from orchestration.provisioning.synthesizer import (
    SNAPSHOTS,
    TemplateName,
    bundled_node,
    load_template,
    synthesize,
    write_snapshots,
)


@pytest.fixture
def no_cdk(monkeypatch):
    """No package is installed, as the CDK isn't in the service's image."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)


def refuse(_context):
    pytest.fail("nothing is to be synthesized")


def test_snapshot_is_loaded_without_the_cdk(no_cdk):
    """The web process never starts Node.js."""
    assert "NodeId" in load_template(TemplateName.NODE, synthesize=refuse)["Parameters"]


def test_only_the_child_process_imports_the_cdk():
    """Importing it starts Node.js, which takes a second and hundreds of megabytes."""
    imports = "from orchestration.provisioning import orchestration_helper, deploy, synthesizer"
    code = f"import sys; {imports}; import orchestration.stacks.cdk_app; sys.exit('aws_cdk' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603


def test_error_without_snapshot_and_cdk_names_the_missing_extra(no_cdk, tmp_path):
    """The message is a sentence for an operator, no traceback."""
    with pytest.raises(StackFailed, match="install the extra `cdk`"):
        load_template(TemplateName.NODE, folder=tmp_path)


def test_missing_snapshot_is_synthesized(tmp_path):
    """After changing a stack, an operator may delete its snapshot."""
    made = {name: {"Description": str(name)} for name in TemplateName}

    assert load_template(TemplateName.NODE, folder=tmp_path, synthesize=lambda _: made) == {
        "Description": "node"
    }


def test_template_with_a_context_is_synthesized():
    """The snapshot is of the template without context."""
    loaded = load_template(
        TemplateName.CLUSTER, {"nat": "1"}, synthesize=lambda context: {TemplateName.CLUSTER: dict(context)}
    )

    assert loaded == {"nat": "1"}


def test_snapshots_are_sorted_and_indented(tmp_path):
    """A diff shows only the changed lines."""
    made = {name: {"b": 1, "a": 2} for name in TemplateName}
    paths = write_snapshots(folder=tmp_path / "templates", synthesize=lambda _: made)

    assert [path.name for path in paths] == ["cluster.json", "data.json", "node.json", "orchestration.json"]
    assert paths[0].read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


def python(code):
    return (sys.executable, "-c", code)


def test_failed_synthesis_shows_the_error_of_the_cdk():
    """The child's standard error is the only explanation."""
    with pytest.raises(StackFailed, match="could not synthesize the templates:\nthe subnet is missing"):
        synthesize(command=python("import sys; sys.exit('the subnet is missing')"))


def test_synthesis_has_a_deadline():
    """A Node.js that hangs must not block the caller."""
    with pytest.raises(StackFailed, match=r"within 0\.1 s"):
        synthesize(command=python("import time; time.sleep(60)"), deadline=0.1)


def test_child_gets_directory_and_context_like_the_cdk_command():
    """They are environment variables; the context always requests the node stack, too."""
    program = (
        "import os, json\n"
        "folder, context = os.environ['CDK_OUTDIR'], json.loads(os.environ['CDK_CONTEXT_JSON'])\n"
        "for name in ('cluster', 'data', 'node', 'orchestration'):\n"
        "    json.dump(context, open(f'{folder}/artificien-{name}.template.json', 'w'))"
    )

    assert synthesize({"nat": "1"}, command=python(program))[TemplateName.NODE] == {"nat": "1", "node": "1"}


@pytest.mark.parametrize(
    ("variables", "is_found"),
    [({"PATH": ""}, True), ({"PATH": "", "JSII_NODE": "/opt/node"}, False)],
)
def test_bundled_node_is_used_if_the_machine_has_none(monkeypatch, variables, is_found):
    """Unless the operator names one."""
    monkeypatch.delenv("JSII_NODE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert (bundled_node() is not None) is is_found


def test_without_any_node_jsii_reports_the_error(monkeypatch, no_cdk):
    """Its message lists where it looked."""
    monkeypatch.delenv("JSII_NODE", raising=False)
    monkeypatch.setenv("PATH", "")

    assert bundled_node() is None


@pytest.mark.synth
@pytest.mark.parametrize("path", ["as it is", "empty"])
def test_snapshots_are_up_to_date(monkeypatch, path):
    """`artificien synth` writes them again after a stack was changed. Node.js may be the bundled one."""
    if path == "empty":
        monkeypatch.setenv("PATH", "")

    snapshots = {name: json.loads((SNAPSHOTS / name.file_name).read_text()) for name in TemplateName}

    assert synthesize() == snapshots


@pytest.mark.synth
def test_cluster_with_nat_runs_tasks_in_private_subnets():
    """It has one gateway and no public addresses, and the same outputs."""
    template = synthesize({"nat": "1"})[TemplateName.CLUSTER]
    plain = load_template(TemplateName.CLUSTER)
    types = [resource["Type"] for resource in template["Resources"].values()]

    assert types.count("AWS::EC2::NatGateway") == 1
    assert template["Outputs"].keys() == plain["Outputs"].keys()
    assert template["Outputs"]["AssignPublicIp"]["Value"] == "DISABLED"
    assert template["Outputs"]["NodeSubnetA"] != template["Outputs"]["PublicSubnetA"]
