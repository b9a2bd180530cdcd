"""Settings for every backend, and a laboratory: the watcher in a fake cloud whose clock nobody has to wait for."""

import importlib.util
import os
import pathlib
import sys

import pytest

import humpback_jax.launch.hosts
import humpback_jax.launch.shell
from humpback_jax.launch.session import BACKENDS
from humpback_jax.launch.settings import read_settings
from humpback_jax.launch.shell import Result, Shell
from humpback_jax.launch.watcher import Watcher

FAKE_CLOUD = pathlib.Path(__file__).parent / "fake_cloud.py"
SECRET = "hf_AbCdEf0123456789"
COMMON = """
name = "pod"
backend = "{backend}"
project = "my-project"
zone = "us-west4-a"
slice = "{slice}"
bucket = "gs://my-bucket"
restarts = 3
wait_minutes = 60
"""
MORE = {
    "tpu": 'package = "humpback_jax==0.1.0"\nsecrets = ["HF_TOKEN"]\n',
    "vm": 'queued = false\npackage = "humpback_jax==0.1.0"\nsecrets = ["HF_TOKEN"]\n',
    "compute": 'package = "humpback_jax==0.1.0"\nsecrets = ["HF_TOKEN"]\n',
    "gke": 'image = "us-docker.pkg.dev/my-project/images/humpback:1"\n',
}
KINDS = {
    "tpu": ("tpu", "v5litepod-16"),
    "vm": ("tpu", "v4-16"),
    "compute": ("compute", "v6e-8"),
    "gke": ("gke", "v6e-16"),
}
HOSTS = {"tpu": 4, "vm": 2, "compute": 2, "gke": 4}


def load(path):
    """A module that is no test, from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake_cloud():
    """The fake cloud's module."""
    return load(FAKE_CLOUD)


def write_settings(folder, kind, more=""):
    """Writes launch.toml for one of KINDS; returns its path."""
    backend, slice_ = KINDS[kind]
    path = pathlib.Path(folder) / "launch.toml"
    path.write_text(COMMON.format(backend=backend, slice=slice_) + MORE[kind] + more)
    return path


PLACEHOLDERS = {"<your zone>": "us-west4-a", "/<shared folder>": "/s", "<shared folder>": "/s", "<your ": "my-"}


def fill(text):
    """A template of the folder `launch` with something in place of every `<…>`."""
    for placeholder, value in (PLACEHOLDERS | {"<": "", ">": ""}).items():
        text = text.replace(placeholder, value)
    return text


@pytest.fixture(scope="session")
def filled():
    """The function that fills in a template."""
    return fill


@pytest.fixture(scope="session")
def settings_file():
    """The function (folder, kind, more TOML) to a settings file."""
    return write_settings


class Laboratory:
    """A watcher in a fake cloud; every command takes a second of a clock that runs by itself."""

    def __init__(self, cloud, folder, kind, more="", **world):
        self.cloud, self.now, self.said = cloud, 0.0, []
        self.world = cloud.new_world(hosts=HOSTS[kind], **world)
        self.settings = read_settings(write_settings(folder, kind, more))
        secrets = {"HF_TOKEN": SECRET} if kind != "gke" else {}
        log = self.settings.state_dir / "launch.log"
        self.shell = Shell(
            secrets,
            log,
            sleep=self.sleep,
            clock=lambda: self.now,
            echo=self.said.append,
        )
        self.backend = BACKENDS[self.settings.backend](self.settings, self.shell)
        self.watcher = Watcher(self.backend)

    def execute(self, command, seconds):
        self.now += 1
        status, out, err = self.cloud.call(self.world, list(command))
        if status == self.cloud.HUNG:
            self.now += seconds
            return Result(command, 124, "", "")
        return Result(command, status, out, err)

    def sleep(self, seconds):
        self.now += seconds

    @property
    def living(self):
        return self.cloud.living(self.world)

    @property
    def commands(self):
        """What was called, without names and flags of places."""
        words = [[word for word in call if not word.startswith("-")] for call in self.world["calls"]]
        return [" ".join(call[:6]) for call in words]

    def everything_seen(self):
        """All that a bystander could read: the user's screen, the logs kept here, and the command lines."""
        files = [path.read_text() for path in self.settings.state_dir.rglob("*") if path.is_file()]
        return "\n".join([*self.said, *files, *(" ".join(call) for call in self.world["calls"])])


@pytest.fixture
def laboratory(fake_cloud, tmp_path, monkeypatch):
    """A function (kind, more TOML, **world) to a Laboratory, in which one thing happens after the other."""
    monkeypatch.setattr(humpback_jax.launch.hosts, "AT_ONCE", 1)

    def make(kind, more="", folder=tmp_path, **world):
        made = Laboratory(fake_cloud, folder, kind, more, **world)
        monkeypatch.setattr(humpback_jax.launch.shell, "execute_command", made.execute)
        return made

    return make


@pytest.fixture
def tools(tmp_path, monkeypatch, fake_cloud):
    """Puts fake gcloud, xpk and kubectl on PATH; returns the file of their world."""
    folder, state = tmp_path / "bin", tmp_path / "world.json"
    folder.mkdir()
    for tool in ("gcloud", "xpk", "kubectl"):
        program = folder / tool
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {FAKE_CLOUD} {state} {tool} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return state
