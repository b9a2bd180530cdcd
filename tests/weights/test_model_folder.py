"""The native model folder: round trip, shardings, dtypes, clear errors, atomicity."""

import os
import pathlib
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from humpback_jax.files import read_json
from humpback_jax.models.config import get_config
from humpback_jax.models.llama import Llama, init_params
from humpback_jax.weights.mapping import flatten, unflatten
from humpback_jax.weights.model_folder import load_model_folder, read_model_card, save_model_folder
from humpback_jax.weights.params_store import params_sha256
from humpback_jax.weights.staging import staged_folder

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny_models

CONFIG = get_config("tiny")


@pytest.fixture(scope="module")
def params() -> dict:
    return init_params(Llama(CONFIG), jax.random.key(0))


@pytest.fixture
def tokenizer_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "tok"
    folder.mkdir()
    tiny_models.write_tokenizer(folder)
    return folder


def test_round_trip(tmp_path: pathlib.Path, params: dict, tokenizer_dir: pathlib.Path) -> None:
    path = tmp_path / "model"
    card = save_model_folder(path, CONFIG, params, tokenizer_dir, source="a test", chat_format="chatml")
    model = load_model_folder(path)
    assert model.card == card == read_model_card(path)
    assert model.config == CONFIG
    assert card.params_sha256 == params_sha256(params) == params_sha256(model.params)
    assert sorted(os.listdir(path)) == ["humpback_model.json", "params", "tokenizer"]
    assert sorted(os.listdir(model.tokenizer_dir)) == ["tokenizer.json", "tokenizer_config.json"]


def test_cast_and_sharding_at_load(tmp_path: pathlib.Path, params: dict, tokenizer_dir: pathlib.Path) -> None:
    path = tmp_path / "model"
    save_model_folder(path, CONFIG, params, tokenizer_dir, source="a test")
    mesh = jax.make_mesh((1, 1), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))
    model = load_model_folder(path, jax.tree.map(lambda _: sharding, params), jnp.bfloat16)
    for name, leaf in flatten(model.params).items():
        assert leaf.dtype == jnp.bfloat16 and leaf.sharding == sharding, name
        np.testing.assert_array_equal(leaf, flatten(params)[name].astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="final_norm/scale"):
        load_model_folder(path, unflatten({k: sharding for k in flatten(params) if k != "final_norm/scale"}))


def test_hash_sees_every_part(params: dict) -> None:
    leaves = flatten(params)
    hashes = {params_sha256(params)}
    scale = leaves["final_norm/scale"]
    for changed in (scale.at[0].add(1e-6), scale.astype(jnp.bfloat16), scale[None], -scale):
        hashes.add(params_sha256(unflatten(leaves | {"final_norm/scale": changed})))
    renamed = {("x" if key == "final_norm/scale" else key): leaf for key, leaf in leaves.items()}
    hashes.add(params_sha256(unflatten(renamed)))
    assert len(hashes) == 6
    assert params_sha256(jax.tree.map(np.asarray, params)) in hashes


def test_wrong_trees_are_refused(tmp_path: pathlib.Path, params: dict, tokenizer_dir: pathlib.Path) -> None:
    leaves = flatten(params)
    bad = {
        "lm_head/kernel .* is missing": {key: leaf for key, leaf in leaves.items() if key != "lm_head/kernel"},
        "parameter extra has no place": leaves | {"extra": jnp.ones(3)},
        r"final_norm/scale has shape \[3\], expected \[32\]": leaves | {"final_norm/scale": jnp.ones(3)},
        "several dtypes": leaves | {"final_norm/scale": jnp.ones(32, jnp.bfloat16)},
    }
    for words, changed in bad.items():
        with pytest.raises(ValueError, match=words):
            save_model_folder(tmp_path / "model", CONFIG, unflatten(changed), tokenizer_dir, source="a test")
    with pytest.raises(ValueError, match="unknown chat format 'x'"):
        save_model_folder(tmp_path / "model", CONFIG, params, tokenizer_dir, source="a test", chat_format="x")
    assert not (tmp_path / "model").exists()


def test_missing_folder_says_what_to_type(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="humpback weights fetch smollm2_135m"):
        load_model_folder(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="name of a size"):
        load_model_folder("llama2_7b")
    hf = tmp_path / "hf"
    hf.mkdir()
    (hf / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="humpback weights import"):
        load_model_folder(hf)


def test_damaged_card_is_named(tmp_path: pathlib.Path) -> None:
    card = tmp_path / "humpback_model.json"
    for content, words in (
        ("{", "not valid JSON"),
        ('{"format_version": 9}', "9"),
        ('{"format_version": 1}', "config"),
    ):
        card.write_text(content)
        with pytest.raises(ValueError, match=words) as error:
            read_model_card(tmp_path)
        assert "humpback_model.json" in str(error.value)


def test_existing_folder_is_kept_unless_told(tmp_path: pathlib.Path, params: dict, tokenizer_dir: pathlib.Path) -> None:
    path = tmp_path / "model"
    save_model_folder(path, CONFIG, params, tokenizer_dir, source="first")
    with pytest.raises(FileExistsError, match="already exists"):
        save_model_folder(path, CONFIG, params, tokenizer_dir, source="second")
    assert read_model_card(path).source == "first"
    save_model_folder(path, CONFIG, params, tokenizer_dir, source="second", overwrite=True)
    assert read_model_card(path).source == "second"
    assert sorted(os.listdir(tmp_path)) == ["model", "tok"]


def test_error_while_writing_leaves_nothing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), staged_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_killed_writer_leaves_nothing_usable_and_is_swept(tmp_path: pathlib.Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from humpback_jax.weights.staging import staged_folder\n"
        "with staged_folder(sys.argv[1]) as folder:\n"
        "    (folder / 'half').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "out")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.iterdir())) == 1
    with staged_folder(tmp_path / "out") as folder:
        (folder / "whole").write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_writers_the_first_to_finish_wins(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileExistsError, match="in the meantime"), staged_folder(tmp_path / "out") as first:
        (first / "from").write_text("first")
        with staged_folder(tmp_path / "out") as second:
            assert first != second and first.exists()
            (second / "from").write_text("second")
    assert (tmp_path / "out" / "from").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_chat_format_keeps_its_key_on_disk(tmp_path: pathlib.Path, params: dict, tokenizer_dir: pathlib.Path) -> None:
    card = save_model_folder(tmp_path / "m", CONFIG, params, tokenizer_dir, source="a test", chat_format="chatml")
    fields = read_json(tmp_path / "m" / "humpback_model.json")
    assert set(fields) == {"format_version", "config", "param_dtype", "source", "chat_template", "params_sha256"}
    assert fields["chat_template"] == card.chat_format == "chatml"
