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


def data_files():
    """Files of the package that are no modules, relative to it."""
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path.relative_to(PACKAGE).as_posix() for path in files if path.suffix != ".py")


def test_every_data_file_is_declared():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "humpback_jax"
    ]
    missing = [name for name in data_files() if not any(fnmatch.fnmatch(name, p.replace("**/", "*")) for p in patterns)]
    assert not missing
    kinds = {name.rpartition(".")[2] for name in data_files()}
    assert kinds >= {"gin", "jsonl", "txt", "typed"}


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


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
    assert not {f"humpback_jax/{name}" for name in data_files()} - inside
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
