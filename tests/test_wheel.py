"""The wheel alone: built, installed beside nothing but dependencies, and fitted from; and what it brings."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
EXTRAS = {"dvc", "ray", "onnx", "onnxruntime", "trl", "gradio", "open-clip-torch", "fastapi", "celery"}


def run(*command, cwd):
    """Run a command without anything of this repository on its path."""
    without = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    own = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(command, cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of what `python -m build` makes of this repository's files."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pal", "pipeline"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=source)
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    return next(built.glob("*.whl"))


def test_wheel_and_sdist_are_fit_for_the_index(built):
    """What the index shows: twine finds no fault, also of the README as a page; every extra and the command are there."""
    assert [path.suffix for path in sorted(built.iterdir())] == [".whl", ".gz"]
    checked = run(sys.executable, "-m", "twine", "check", "--strict", *sorted(built.iterdir()), cwd=built)
    assert checked.count("PASSED") == 2
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        about = next(name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = Parser().parsestr(archive.read(about).decode())
        named = archive.namelist()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"images", "onnx", "pipeline", "ray", "serve", "trl", "all"} <= set(
        metadata.get_all("Provides-Extra")
    )
    assert any("Python :: 3.11" in each for each in metadata.get_all("Classifier"))
    assert not any(name.startswith(("tests", "benchmarks", "experiments")) for name in named)
    assert any(name.endswith("log.html.j2") for name in named)


def test_an_example_is_fitted_from_the_installed_wheel(wheel, tmp_path):
    venv.create(tmp_path / "env")
    home = tmp_path / "env/lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    shutil.unpack_archive(wheel, home, "zip")
    # Packages that are installed here, but for those that a .pth of theirs would add, as this repository.
    (home / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = tmp_path / "env/bin/python"
    where = run(python, "-c", "import pal; print(pal.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(home)
    log = ROOT / "examples/support-answers.csv"
    how = ("--encoder", "hashed-words", "--method", "mixed_effects", "--out", "mine")
    said = run(python, "-m", "pal.cli.app", "fit", log, *how, cwd=tmp_path)
    assert "people       40" in said
    assert list((tmp_path / "mine").glob("*.html"))


def brought(name, extras, seen):
    """Names of the packages that installing one brings, as far as they are installed here."""
    for each in map(Requirement, requires(name) or []):
        environments = [{**default_environment(), "extra": extra} for extra in ("", *extras)]
        key = canonicalize_name(each.name)
        if (each.marker and not any(map(each.marker.evaluate, environments))) or key in seen:
            continue
        seen.add(key)
        try:
            distribution(key)
        except PackageNotFoundError:
            continue
        brought(key, each.extras, seen)
    return seen


def test_without_extras_nothing_of_the_pipeline_comes_along():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = set()
    for each in map(Requirement, project["dependencies"]):
        found |= {canonicalize_name(each.name)} | brought(each.name, each.extras, set())
    assert {"torch", "polars", "transformers"} <= found
    assert not found & EXTRAS
