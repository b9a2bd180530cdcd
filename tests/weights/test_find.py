"""What a model may be named by: every way leads to the same folder, and what has no model says what was expected."""

import shutil

import pytest

from humpback_jax.weights import find
from humpback_jax.weights.convert import export_weights
from humpback_jax.weights.find import find_model
from humpback_jax.weights.model_folder import read_model_card


@pytest.fixture
def run_dir(tmp_path, tiny_model_dir):
    """A run whose round 1 is trained and whose round 2 is not."""
    folder = tmp_path / "a run"
    for stage in ("m_yx", "m0", "m1"):
        shutil.copytree(tiny_model_dir, folder / stage / "model")
    for stage in ("m2", "m1_random", "augmented"):
        (folder / stage).mkdir()
    (folder / "config.gin").write_text("")
    return folder


def test_a_run_is_its_last_model_a_stage_its_own_and_a_folder_itself(run_dir):
    assert find_model(run_dir) == find_model(run_dir / "m1") == str(run_dir / "m1" / "model")
    assert find_model(run_dir / "m_yx") == find_model(run_dir / "m_yx" / "model") == str(run_dir / "m_yx" / "model")
    shutil.rmtree(run_dir / "m1")
    assert find_model(f"{run_dir}/") == str(run_dir / "m0" / "model")


@pytest.mark.parametrize("stage", ["m2", "augmented"])
def test_a_stage_without_a_model_is_named(run_dir, stage):
    with pytest.raises(FileNotFoundError, match=f"{stage}: expected a run directory, a stage"):
        find_model(run_dir / stage)


def test_a_run_without_a_model_is_named(tmp_path):
    (tmp_path / "seeds").mkdir()
    with pytest.raises(FileNotFoundError, match="has no model yet; `humpback align` goes on"):
        find_model(tmp_path)


def test_a_mistyped_path_is_not_asked_for_at_the_hub(run_dir, monkeypatch):
    monkeypatch.setattr(find, "fetch_weights", lambda name: pytest.fail(f"asked for {name}"))
    monkeypatch.chdir(run_dir.parent)
    for path in ("a run/m7", "./m7", str(run_dir / "m7"), "../m7"):
        with pytest.raises(FileNotFoundError, match=f"nothing at {path}: expected a run directory"):
            find_model(path)


def test_a_name_is_fetched_with_and_without_its_mark(monkeypatch):
    monkeypatch.setattr(find, "fetch_weights", lambda name: f"cache of {name}")
    assert find_model("org/name") == find_model("hub:org/name") == "cache of org/name"


def test_foreign_weights_are_converted_once_and_again_when_they_change(tmp_path, tiny_model_dir, monkeypatch):
    monkeypatch.setenv("HUMPBACK_CACHE", str(tmp_path / "cache"))
    export_weights(tiny_model_dir, tmp_path / "foreign", show_progress=False)
    found = find_model(tmp_path / "foreign")
    monkeypatch.setattr(find, "import_weights", lambda *args, **kwargs: pytest.fail("converted again"))
    assert find_model(tmp_path / "foreign") == found
    assert read_model_card(found).params_sha256 == read_model_card(tiny_model_dir).params_sha256
    assert find_model(tmp_path / "foreign", convert=False) == str(tmp_path / "foreign")
    (tmp_path / "foreign" / "config.json").write_text("{}")
    with pytest.raises(pytest.fail.Exception, match="converted again"):
        find_model(tmp_path / "foreign")
