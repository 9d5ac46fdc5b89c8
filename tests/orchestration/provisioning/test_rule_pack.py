import subprocess
import sys

import pytest

from orchestration.provisioning.synthesizer import cdk_environment

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
