"""Checkpoints of t5x and model folders, converted both ways; none of it needs t5x."""

import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from click.testing import CliRunner

from humpback_jax.cli import cli
from humpback_jax.interop.t5x_checkpoints import export_t5x, import_t5x
from humpback_jax.training.optimizer import OptimizerConfig, make_optimizer
from humpback_jax.weights.model_folder import load_model_folder, read_model_card


@pytest.fixture(scope="module")
def checkpoint(tiny_model_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5x")
    figures = export_t5x(tiny_model_dir, folder, step=7)
    assert figures["path"] == str(folder / "checkpoint_7")
    return folder / "checkpoint_7"


def stored(checkpoint):
    return ocp.PyTreeCheckpointer().restore(checkpoint / "state")


def test_the_state_is_what_t5x_stores_before_the_first_update(checkpoint, tiny_model_dir):
    tree, params = stored(checkpoint), load_model_folder(tiny_model_dir).params
    jax.tree.map(np.testing.assert_array_equal, tree["target"], params)
    assert tree["state"]["step"] == 7
    leaves = jax.tree.leaves(tree["state"]["param_states"])
    moments = jax.tree.leaves(jax.eval_shape(make_optimizer(OptimizerConfig()).init, params))
    assert [leaf.shape for leaf in leaves] == [leaf.shape for leaf in moments]
    assert not any(np.any(leaf) for leaf in leaves)


def test_there_and_back_is_the_same_model(checkpoint, tiny_model_dir, tmp_path):
    assert import_t5x(checkpoint.parent, tiny_model_dir, tmp_path / "model") == {
        "tensors": 12, "step": 7, "path": str(tmp_path / "model"),
    }  # fmt: skip
    before, after = read_model_card(tiny_model_dir), read_model_card(tmp_path / "model")
    assert after.params_sha256 == before.params_sha256
    assert (after.config, after.chat_format) == (before.config, before.chat_format)
    assert "checkpoint_7" in after.source


def test_a_checkpoint_as_t5x_writes_it_is_read(checkpoint, tiny_model_dir, tmp_path):
    """t5x's own handler keeps all tensors in one database (OCDBT) instead of one folder each."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=True)) as checkpointer:
        checkpointer.save(tmp_path / "checkpoint_12" / "state", args=ocp.args.PyTreeSave(stored(checkpoint)))
    result = CliRunner().invoke(
        cli, ["t5x", "import", str(tmp_path), str(tiny_model_dir), str(tmp_path / "model"), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["step"] == 12
    assert read_model_card(tmp_path / "model").params_sha256 == read_model_card(tiny_model_dir).params_sha256


def test_of_several_checkpoints_the_newest_counts(checkpoint, tiny_model_dir, tmp_path):
    for step in (9, 10):
        shutil.copytree(checkpoint, tmp_path / "run" / f"checkpoint_{step}")
    assert import_t5x(tmp_path / "run", tiny_model_dir, tmp_path / "model", "bfloat16")["step"] == 10
    assert read_model_card(tmp_path / "model").param_dtype == "bfloat16"


def test_a_checkpoint_of_another_architecture_names_the_tensor(checkpoint, tiny_model_dir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model_dir, other)
    card = json.loads((other / "humpback_model.json").read_text())
    card["config"]["mlp_dim"] = 48
    (other / "humpback_model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"layers/mlp/gate/kernel has shape \[2, 32, 64\], expected \[2, 32, 48\]"):
        import_t5x(checkpoint, other, tmp_path / "model")
    card["config"] |= {"mlp_dim": 64, "tie_word_embeddings": True}
    (other / "humpback_model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="lm_head/kernel has no place in model"):
        import_t5x(checkpoint, other, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_is_no_checkpoint_says_what_to_name(tiny_model_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="name MODEL_DIR of a t5x run"):
        import_t5x(tmp_path, tiny_model_dir, tmp_path / "model")


def test_an_existing_checkpoint_is_not_overwritten(checkpoint, tiny_model_dir):
    with pytest.raises(FileExistsError, match="checkpoint_7 already exists"):
        export_t5x(tiny_model_dir, checkpoint.parent, step=7)
