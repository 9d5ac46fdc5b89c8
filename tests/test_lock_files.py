"""The lock files install the same versions when newer ones exist, with uv and with old releases of pip.

The tests install wheels that contain only metadata, from a temporary folder instead of a registry.
"""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import uv
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCKS = ["requirements.txt", "requirements-service.txt", "requirements-node.txt"]
"""Not requirements-dev.txt: the metadata of its packages is available only after `make lint`."""
PIPS = ["22.3", "23.2.1"]
"""Python 3.11.0 brings the one, Python 3.11.7 the other. pip 23.3 resolves extras differently."""
NEWER = "9999"


@pytest.fixture(scope="module", params=PIPS)
def pip(request, tmp_path_factory) -> Path:
    """Install this release of pip into a folder, from the registry or from uv's cache."""
    if request.param == "22.3" and sys.version_info >= (3, 12):
        pytest.skip("pip 22.3 doesn't start on Python 3.12 or newer")
    folder = tmp_path_factory.mktemp("pip")
    lock = ROOT / "tests" / "data" / "pip" / f"pip-{request.param}.txt"
    answer = run_uv("pip", "sync", "--require-hashes", "--no-build", "--target", folder, lock)
    assert answer.returncode == 0, f"This test needs pip {request.param} from the registry.\n{answer.stderr}"
    return folder


def run_uv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run uv as the Makefile does, on this Python."""
    environment = {"UV_SYSTEM_CERTS": "1", **os.environ, "UV_NO_CONFIG": "1", "UV_PYTHON": sys.executable}
    command = [uv.find_uv_bin(), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def run_pip(pip: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run this pip without the machine's configuration."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {
        "PYTHONPATH": str(pip),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603


def locked(lock: str) -> dict[str, Requirement]:
    """Return the requirements in a lock that apply to this Python and this system, by name."""
    lines = re.findall(r"^(\w.*) \\$", (ROOT / lock).read_text(), re.MULTILINE)
    requirements = [Requirement(line) for line in lines]
    return {
        requirement.name: requirement
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    }


def version(requirement: Requirement) -> str:
    """Return the version that a requirement is pinned to."""
    (pinned,) = requirement.specifier
    return pinned.version


def publish(folder: Path, name: str, version: str, described: metadata.PackageMetadata) -> str:
    """Write a wheel with the dependencies and extras of the real package, and return its hash."""
    stem = f"{re.sub(r'[-_.]+', '_', name)}-{version}"
    about = [f"Requires-Dist: {wanted}" for wanted in described.get_all("Requires-Dist", [])]
    about += [f"Provides-Extra: {extra}" for extra in described.get_all("Provides-Extra", [])]
    files = {
        f"{stem}.dist-info/METADATA": "\n".join(
            ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *about, ""]
        ),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{stem}.dist-info/RECORD"
    files[record] = "".join(f"{path},,\n" for path in (*files, record))
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def stock(folder: Path, requirements: dict[str, Requirement]) -> list[str]:
    """Publish two versions of each package, the locked and a newer one, and return the lock for them."""
    lines = []
    for name, requirement in requirements.items():
        described = metadata.metadata(name)
        publish(folder, name, NEWER, described)
        digest = publish(folder, name, version(requirement), described)
        lines.append(f"{requirement} --hash=sha256:{digest}\n")
    return lines


def installed(target: Path) -> dict[str, str]:
    """Return the versions of the packages in a folder, by name."""
    return {found.name: found.version for found in metadata.distributions(path=[str(target)])}


@pytest.mark.moto
@pytest.mark.parametrize("lock", LOCKS)
def test_pip_installs_the_locked_versions(pip, lock, tmp_path):
    """Old releases resolve `coverage[toml]` apart from `coverage`, so the lock must pin it as well."""
    requirements = locked(lock)
    copy = tmp_path / lock
    copy.write_text("".join(stock(tmp_path, requirements)))
    answer = run_pip(
        pip, "install", "--no-index", "--find-links", tmp_path, "--require-hashes",
        "--target", tmp_path / "target", "-r", copy,
    )  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    assert installed(tmp_path / "target") == {name: version(one) for name, one in requirements.items()}


@pytest.mark.moto
def test_old_pips_refuse_a_lock_without_extras(pip, tmp_path):
    """This shows that the test above fails for such a lock."""
    requirements = locked("requirements.txt")
    lines = stock(tmp_path, {name: requirements[name] for name in ("coverage", "pytest-cov")})
    copy = tmp_path / "requirements.txt"
    copy.write_text("".join(line.replace("[toml]", "") for line in lines))
    answer = run_pip(
        pip, "install", "--no-index", "--find-links", tmp_path, "--require-hashes",
        "--target", tmp_path / "target", "-r", copy,
    )  # fmt: skip

    assert answer.returncode != 0
    assert "must have their versions pinned" in answer.stderr


@pytest.mark.moto
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("command", [("sync",), ("install", "-r")], ids=" ".join)
def test_uv_installs_the_locked_versions(command, lock, tmp_path):
    """The Makefile calls `sync`, which doesn't resolve dependencies; `install` does."""
    requirements = locked(lock)
    copy = tmp_path / lock
    copy.write_text("".join(stock(tmp_path, requirements)))
    answer = run_uv(
        "pip", *command, copy, "--no-cache", "--no-index", "--find-links", tmp_path, "--require-hashes",
        "--no-build", "--target", tmp_path / "target",
    )  # fmt: skip

    assert answer.returncode == 0, answer.stderr
    assert installed(tmp_path / "target") == {name: version(one) for name, one in requirements.items()}


@pytest.mark.parametrize("lock", [*LOCKS, "requirements-dev.txt"])
def test_lock_has_each_required_extra(lock):
    """pytest-cov depends on `coverage[toml]`, so the lock has `coverage[toml]==`, not `coverage==`.

    This reads the metadata of the packages that are installed here, and of the project.
    """
    requirements = locked(lock)
    missing = {
        f"{name} requires {wanted}"
        for name in ("artificien-orchestration", *requirements)
        for wanted in requirements_of(name, requirements)
        if wanted.name in requirements and wanted.extras - requirements[wanted.name].extras
    }

    assert missing == set()


def requirements_of(name: str, requirements: dict[str, Requirement]) -> list[Requirement]:
    """Return what a package requires with its locked extras, and the project with all of its extras."""
    try:
        described = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return []
    extras = requirements[name].extras if name in requirements else described.get_all("Provides-Extra", [])
    wanted = [Requirement(line) for line in described.get_all("Requires-Dist", [])]
    return [
        one
        for one in wanted
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]
