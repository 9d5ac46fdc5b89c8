"""All templates of the CDK app: their form, and what linters find in them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.provisioning.synthesizer import SNAPSHOTS, TemplateName, cdk_environment
from tests.orchestration.stacks.reading import TEMPLATES

CHECK = """
import sys
from aws_cdk import App
from cdk_nag import AwsSolutionsChecks
from orchestration.stacks.cdk_app import declare

app = App(analytics_reporting=False)
declare(app)
app.synth()
report = AwsSolutionsChecks(app).validate_scope(app)
findings = [
    f"{found.rule_name} {resource.construct_path}"
    for found in report.violations
    for resource in found.violating_resources
]
sys.exit("\\n".join(findings) or (0 if report.success else "no success, and no finding"))
"""


@pytest.mark.synth
@pytest.mark.parametrize("context", [{}, {"nat": "1"}], ids=["without NAT", "with NAT"])
def test_rule_pack_finds_nothing_unacknowledged(tmp_path, context):
    """cdk-nag's AwsSolutions checks all four stacks."""
    environment = cdk_environment(str(tmp_path), {"node": "1", **context})

    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", CHECK], env=environment, check=False, capture_output=True, text=True
    )

    assert (run.returncode, run.stderr.strip()) == (0, "")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_template_is_passed_inline_without_bootstrap(template):
    """CreateStack accepts 51,200 bytes; there is no bucket for assets or larger templates."""
    body = json.dumps(template)

    assert len(body.encode()) < 51_200
    assert "cdk-hnb659fds" not in body
    assert "BootstrapVersion" not in body


@pytest.mark.moto
def test_cfn_lint_finds_nothing():
    """Warnings count, too."""
    linter = Path(sys.executable).with_name("cfn-lint")

    run = subprocess.run(  # noqa: S603
        [linter, *(SNAPSHOTS / name.file_name for name in TemplateName)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert (run.returncode, run.stdout) == (0, "")
