"""launch.toml: what is wrong is named; what a slice's name means."""

import re

import pytest
from click.testing import CliRunner

import humpback_jax.launch.shell
from humpback_jax.cli import cli
from humpback_jax.hardware import get_slice
from humpback_jax.launch.settings import read_settings
from humpback_jax.launch.shell import ADVICE, Result, Shell, advice_for, is_not_found, is_transient


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("colour = 'red'", "unknown field 'colour'"),
        ("capacity = 'cheap'", "capacity = 'cheap': expected one of spot, reserved, on_demand"),
        ("port = '8476'", "port = '8476': expected int"),
        ("queued = 1", "queued = 1: expected bool"),
        ("hosts = 'a'", "hosts = 'a': expected"),
        ("[env]\nHF_TOKEN = 'x'", "looks like a secret"),
        ("[env]\n'a b' = 'x'", "no name of a variable"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_the_file(tmp_path, settings_file, more, named):
    path = settings_file(tmp_path, "tpu", more)
    with pytest.raises(ValueError, match=f"launch.toml: .*{named}"):
        read_settings(path)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('name = "pod"', 'name = "Pod_1"', "name = 'Pod_1'"),
        ('"v5litepod-16"', '"v5litepod-12"', "unknown slice 'v5litepod-12'; known are v5e-1, v5e-4, v5e-8, v5e-16"),
        ('"v5litepod-16"', '"h100-8"', "unknown slice 'h100-8'"),
        ('backend = "tpu"', 'backend = "compute"', "Compute Engine does not offer it"),
        ('"gs://my-bucket"', '"/data"', "expected gs://NAME"),
        ('package = "humpback_jax==0.1.0"', "", "`package` is missing"),
        ('zone = "us-west4-a"', "", "`zone` is missing"),
        ('name = "pod"', "", "`name` is missing"),
        ('name = "pod"', "name = ", "not valid TOML"),
        ('backend = "tpu"', 'backend = "gke"\nimage = "i"', "secrets are not passed with backend = 'gke'"),
        ('backend = "tpu"', 'backend = "ssh"', "`hosts` is missing"),
    ],
)
def test_settings_that_do_not_fit_say_what_to_change(tmp_path, settings_file, old, new, named):
    path = settings_file(tmp_path, "tpu")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=named):
        read_settings(path)


def test_a_missing_settings_file_points_to_the_page_that_shows_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"docs/launch\.md"):
        read_settings(tmp_path / "launch.toml")


@pytest.mark.parametrize(
    ("name", "chips", "hosts", "compute_hosts", "topology"),
    [
        ("v4-16", 8, 2, 2, "2x2x2"),
        ("v5litepod-8", 8, 1, 2, "2x4"),
        ("v5litepod-16", 16, 4, 4, "4x4"),
        ("v5p-8", 4, 1, 1, "2x2x1"),
        ("v5p-128", 64, 16, 16, "4x4x4"),
        ("v6e-8", 8, 1, 2, "2x4"),
        ("v6e-256", 256, 64, 64, "16x16"),
    ],
)
def test_slices(name, chips, hosts, compute_hosts, topology):
    slice_ = get_slice(name)
    workers = (slice_.hosts, slice_.compute_hosts)
    assert (slice_.num_devices, *workers, slice_.topology) == (chips, hosts, compute_hosts, topology)


@pytest.mark.parametrize("spelling", ["v5e-16", "v5litepod-16", "V5E-16", "V5LitePod-16"])
def test_the_cloud_gets_its_own_name_of_a_slice_in_any_spelling(tmp_path, settings_file, spelling, monkeypatch):
    """`fit` and `plan` say v5e-16, the Cloud TPU API and XPK want v5litepod-16: one spelling serves all."""
    monkeypatch.setenv("DRY_RUN", "1")
    for kind, flag in (("tpu", "--accelerator-type=v5litepod-16"), ("gke", "--tpu-type=v5litepod-16")):
        path = settings_file(tmp_path, kind)
        path.write_text(re.sub('slice = ".*"', f'slice = "{spelling}"', path.read_text()))
        result = CliRunner().invoke(cli, ["launch", "create", f"--settings={path}"])
        assert result.exit_code == 0, result.exception
        assert flag in result.output


def test_advice_and_what_may_be_tried_again():
    assert "Quotas" in advice_for("ERROR: (gcloud) RESOURCE_EXHAUSTED: Quota exceeded")
    assert len(set(ADVICE.values())) == len(ADVICE)
    assert is_transient(Result([], 255, "", "ssh: connect to host 1.2.3.4 port 22: Connection refused"))
    assert is_transient(Result([], 1, "", "503 UNAVAILABLE"))
    assert not is_transient(Result([], 1, "", "UNAVAILABLE: PERMISSION_DENIED"))
    assert not is_transient(Result([], 1, "", "invalid choice"))
    assert is_not_found(Result([], 1, "", "ERROR: NOT_FOUND: Resource 'x' was not found"))
    assert not is_not_found(Result([], 0, "", "was not found"))


def test_no_secret_passes_the_shell_in_any_line(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(humpback_jax.launch.shell, "execute_command", lambda c, s: Result([], 1, "", "no: two"))
    shell = Shell({"LONG": "two\nlines of it", "SHORT": "it"}, tmp_path / "log", echo=said.append)
    with pytest.raises(OSError, match=r"no: \[secret\]"):
        shell.run(["true"])
    shell.say("lines of it")
    assert said == ["[secret]"]
    assert "two" not in (tmp_path / "log").read_text()
    with pytest.raises(ValueError, match="secret stands in a command line"):
        shell.run(["curl", "--header=two"])
