"""`humpback launch init`: a settings file for every backend, complete, read as it stands once it is filled in."""

import dataclasses
import pathlib
import re
import tomllib

import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.launch.settings import TEMPLATES, Settings, launch_files, placeholders, read_settings

BACKENDS = list(TEMPLATES)
FIELDS = {field.name: field for field in dataclasses.fields(Settings) if field.name != "folder"}
WATCH = {"port", "start_seconds", "heartbeat_seconds", "restarts"}
EVERY = {"name", "backend", "bucket", "python", "slice", "env"} | WATCH
CLOUD = {"project", "zone", "capacity", "wait_minutes"}
MACHINES = {"package", "jax", "libtpu", "python_version", "service_account", "runtime", "internal_ip", "secrets"}
# What a backend reads, beside what none needs.
READ = {
    "tpu": EVERY | CLOUD | MACHINES | {"queued", "valid_hours"},
    "compute": EVERY | CLOUD | MACHINES | {"reservation"},
    "gke": EVERY | CLOUD | {"image", "reservation"},
    "ssh": EVERY | {"hosts", "transport", "ssh_options", "secrets"},
}
COMMENTED = re.compile(r"^# (?=\w+ = )", re.M)


def template(backend):
    return (launch_files() / TEMPLATES[backend]).read_text()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_written_file_is_read_once_it_is_filled_in(backend, tmp_path, monkeypatch, filled):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["launch", "init", backend])
    assert result.exit_code == 0, result.exception
    path = tmp_path / "launch.toml"
    assert all(f"{name}" in result.output for name in placeholders(path))
    with pytest.raises(ValueError, match="launch init"):
        read_settings(path)
    path.write_text(filled(path.read_text()))
    assert placeholders(path) == []
    assert read_settings(path).backend == backend
    monkeypatch.setenv("DRY_RUN", "1")
    monkeypatch.setenv("HF_TOKEN", "t")
    for verb in ("create", "wait", "setup", "run", "status", "stop", "delete"):
        arguments = ["experiments/quickstart.gin"] if verb == "run" else []
        result = CliRunner().invoke(cli, ["launch", verb, *arguments])
        assert result.exit_code == 0, result


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_template_names_every_field_that_its_backend_reads_with_its_default(backend, tmp_path, filled):
    path = tmp_path / "all.toml"
    path.write_text(filled(COMMENTED.sub("", template(backend))))
    values = tomllib.loads(path.read_text())
    assert set(values) == READ[backend]
    for name in set(values) - set(tomllib.loads(filled(template(backend)))):
        default = FIELDS[name].default
        shown_as_it_is = name in ("slice", "transport") or not default or default is dataclasses.MISSING
        assert shown_as_it_is or values[name] == default, name
    if backend == "ssh":
        path.write_text(path.read_text().replace("v5e-16", "v5e-8"))
    assert read_settings(path).backend == backend


def test_the_templates_together_name_every_field():
    assert set().union(*READ.values()) == set(FIELDS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_must_be_given_comes_first(backend, filled):
    must, rest = template(backend).split("# Commonly changed")
    assert placeholders(launch_files() / TEMPLATES[backend])
    assert not re.search(r"^\w+ = .*<", rest, re.M)
    assert {"name", "backend", "bucket"} <= set(tomllib.loads(filled(must)))


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    result = CliRunner().invoke(cli, ["launch", "init", "tpu", f"--settings={path}"])
    assert "there already" in str(result.exception) and path.read_text() == "mine"
    other = CliRunner().invoke(cli, ["launch", "init", "gke", f"--settings={tmp_path / 'other.toml'}"])
    assert other.exit_code == 0 and "docker build" in other.output


def test_versions_in_the_folder_are_those_of_the_settings_and_the_package():
    project = tomllib.loads((pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    texts = "".join(path.read_text() for path in launch_files().iterdir() if path.is_file())
    assert set(re.findall(r"humpback_jax==([\d.]+\d)", texts)) == {project["version"]}
    assert re.findall(r"^ARG (?:JAX|LIBTPU)=(.*)$", texts, re.M) == [FIELDS["jax"].default, FIELDS["libtpu"].default]
