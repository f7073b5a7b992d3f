"""What users install: the wheel, the sdist, and the image, whose build is run here step by step."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar
from sidecar.settings import parse

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """What the command prints. It has to succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone has, without what was made in it."""
    copy = tmp_path_factory.mktemp("source") / "clone"
    made = shutil.ignore_patterns(".*", "__pycache__", "var", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, copy, ignore=made)
    return copy


@pytest.fixture(scope="module")
def packages(source: Path) -> tuple[Path, Path]:
    """The wheel and the sdist."""
    made = source / "dist"
    run(sys.executable, "-m", "hatchling", "build", "-d", made, cwd=source)
    (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
    return wheel, sdist


def names_below(folder: str, *, prefix: str = "") -> set[str]:
    """The files of a folder of the project, as an archive names them."""
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {f"{prefix}{path.relative_to(ROOT)}" for path in files if "__pycache__" not in path.parts}


def test_the_wheel_has_the_package_and_nothing_else(packages: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(packages[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licenses = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert names == names_below("sidecar")
    assert {"sidecar/py.typed", "sidecar/web/static/sidecar.css"} <= names
    assert "sidecar/web/templates/sign_in.html" in names
    assert len(licenses) == 1


@pytest.mark.parametrize("folder", ["sidecar", "config", "examples", "tests"])
def test_the_sdist_has_what_the_project_is_made_of(packages: tuple[Path, Path], folder: str) -> None:
    prefix = packages[1].name.removesuffix(".tar.gz") + "/"
    with tarfile.open(packages[1]) as sdist:
        assert names_below(folder, prefix=prefix) <= set(sdist.getnames())


# --- the image -----------------------------------------------------------------------------------


def instructions(name: str) -> list[str]:
    """The arguments of every such instruction of the Dockerfile, on one line each."""
    whole = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return [line.partition(" ")[2] for line in whole.splitlines() if line.partition(" ")[0] == name]


def image_environment() -> dict[str, str]:
    """What the image sets."""
    return dict(pair.split("=", 1) for pair in instructions("ENV")[-1].split())


@pytest.fixture(scope="module")
def image(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """/opt/sidecar of the image, by the commands of the Dockerfile's first stage."""
    directory = tmp_path_factory.mktemp("image")
    opt, wheels = directory / "opt", directory / "wheels"
    first, second = instructions("RUN")[:2]
    _, *steps = [*first.split(" && "), *second.split(" && ")]  # the build's own tools are in this environment
    pip = f"{sys.executable} -m pip --quiet --disable-pip-version-check"
    for step in (step.strip() for step in steps):
        here = step.replace("/opt/sidecar", str(opt)).replace("/wheels", str(wheels))
        here = re.sub(r"^pip ", f"{pip} ", re.sub(r"^python ", f"{sys.executable} ", here))
        run("sh", "-c", here, cwd=source)
    yield opt
    shutil.rmtree(opt)


def test_the_image_runs_the_sidecar(image: Path, tmp_path: Path) -> None:
    command = image / "bin" / "sidecar"
    assert run(command, "--version", cwd=tmp_path).split() == ["sidecar", sidecar.__version__]
    settings = ROOT / "config/container.toml"
    run(command, "config", "check", "--config", settings, cwd=tmp_path)


def test_the_image_has_no_build_tools(image: Path) -> None:
    installed = {path.name.partition("-")[0] for path in image.glob("lib/python*/site-packages/*.dist-info")}
    assert "auth_sidecar" in installed
    assert not installed & {"pip", "hatchling", "setuptools", "editables", "pytest", "mypy"}
    assert instructions("RUN")[-1].startswith("pip uninstall --yes")


def test_the_image_has_exactly_the_pins(image: Path) -> None:
    pins = pinned("requirements.txt")
    listed = run(sys.executable, "-m", "pip", "--python", image / "bin/python", "list", "--format=freeze")
    installed = dict(line.split("==") for line in listed.split())
    del installed["auth-sidecar"]
    assert {name.lower().replace("_", "-"): version for name, version in installed.items()} == pins


def test_the_image_is_not_roots() -> None:
    (user,) = instructions("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    setting_up = instructions("RUN")[-1]
    assert f"--gid {gid} sidecar" in setting_up
    assert f"--uid {uid} --gid {gid}" in setting_up
    assert f"--owner {uid} --group {gid} /var/lib/sidecar" in setting_up


def test_the_image_keeps_its_data_in_the_volume() -> None:
    assert instructions("VOLUME") == instructions("WORKDIR")[-1:] == ["/var/lib/sidecar"]
    assert parse({}).store.url == "sqlite:///var/sidecar.db"
    assert not any(name.startswith("SIDECAR_STORE") for name in image_environment())


def test_the_image_starts_with_a_settings_file() -> None:
    target = image_environment()["SIDECAR_CONFIG"]
    assert f"config/container.toml {target}" in instructions("COPY")
    assert instructions("ENTRYPOINT") == ['["sidecar"]']
    assert instructions("CMD") == ['["serve"]']
    assert instructions("HEALTHCHECK")[0].endswith('CMD ["sidecar", "health"]')


def test_the_image_gets_every_file_that_it_is_built_from() -> None:
    admitted = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        part for line in instructions("COPY") if not line.startswith("--from") for part in line.split()[:-1]
    }
    assert admitted == copied
    assert all((ROOT / name).exists() for name in copied)


# --- the pins ------------------------------------------------------------------------------------


def pinned(file: str) -> dict[str, str]:
    """Names and versions; every line is one exact version, a comment, or another such file."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith(("#", "-r "))]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines)
    return dict(line.split("==") for line in lines)


PINS = [f"requirements{kind}.txt" for kind in ("", "-build", "-bench", "-dev")]


@pytest.mark.parametrize("name", PINS)
def test_versions_are_pinned_without_an_address(name: str) -> None:
    text = (ROOT / name).read_text()
    assert pinned(name)
    assert not re.search(r"://|--(extra-)?index|--find-links|@", text)


def test_the_pins_are_what_these_tests_ran_with() -> None:
    listed = run(sys.executable, "-m", "pip", "list", "--format=freeze")
    installed = {
        name.lower().replace("_", "-"): version
        for name, version in (line.split("==") for line in listed.split())
    }
    pins = {name: version for file in PINS for name, version in pinned(file).items()}
    assert pins.items() <= installed.items()
