"""The wheel: every data file is in it, and it works in an empty environment, from another directory."""

import fnmatch
import json
import os
import pathlib
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "humpback_jax"


SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
# Folders at the top whose files are in the wheel as data, by the package that they are there.
MAPPED = SETUPTOOLS["package-dir"]


def data_files():
    """Files that are no modules, by their path in the wheel."""
    found = {}
    for package, folder in {"humpback_jax": "humpback_jax", **MAPPED}.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                found[f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"] = package
    return found


def test_every_data_file_is_declared():
    declared = [
        f"{package.replace('.', '/')}/{pattern.replace('**/', '*')}"
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
    ]
    files = data_files()
    assert not [name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in declared)]
    assert {name.rpartition(".")[2] for name in files} >= {"gin", "jsonl", "sh", "txt", "typed"}


def test_every_folder_of_modules_is_a_listed_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]
    packages = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert packages == {name for name in SETUPTOOLS["packages"] if not name.startswith(tuple(MAPPED))}


def test_mapped_folders_hold_data_alone():
    """Markers apart, by which gin finds files: Python there would be imported twice."""
    modules = [path for folder in MAPPED.values() for path in (ROOT / folder).rglob("*.py")]
    assert {path.name for path in modules} <= {"__init__.py"}
    assert all(path.read_text().count("\n") == 1 for path in modules)


def test_citation_names_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version} " in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, timeout=600)
    (path,) = folder.glob("*.whl")
    assert list(folder.glob("*.tar.gz"))
    return path


@pytest.mark.slow
def test_the_wheel_holds_every_file(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert not data_files().keys() - inside
    assert not {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")} - inside
    assert not [name for name in inside if name.startswith("tests/")]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_align_runs_from_the_wheel(wheel, tmp_path):
    """In an empty environment, from a directory with nothing in it, at the size of smoke.gin."""
    venv.create(tmp_path / "env", with_pip=True)
    python, elsewhere = tmp_path / "env" / "bin" / "python", tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True, timeout=1200, cwd=elsewhere, env=clean)
    command = [tmp_path / "env" / "bin" / "humpback", "align", "--gin_file=experiments/quickstart.gin"]
    command += ["--gin_file=smoke.gin", "--run_dir=run", "--json"]
    environment = clean | {"JAX_PLATFORMS": "cpu"}
    result = subprocess.run(command, timeout=1500, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads(result.stdout)
    assert (elsewhere / "run" / "m2" / "model" / "humpback_model.json").exists()
