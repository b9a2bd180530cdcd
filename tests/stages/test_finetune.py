"""The finetune stage around a training: what stays on the disk, what may change in between, where weights come from."""

import dataclasses

import pytest

from humpback_jax.data.mixture import DIRECT, PairSet, TrainingMixture
from humpback_jax.data.pairs import Pair
from humpback_jax.files import read_json
from humpback_jax.partitioning import LogicalAxisRules, MeshShape
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.stages.finetune import FinetuneConfig, finetune
from humpback_jax.stages.model import open_model
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.weights.model_folder import save_model_folder

CONFIG = FinetuneConfig(
    num_steps=4,
    batch_size=2,
    row_length=64,
    rows_per_microbatch=1,
    dropout=0.0,
    dtype="float32",
    remat_policy="none",
    optimizer=OptimizerConfig(learning_rate=1e-3, final_learning_rate=1e-3),
)


@pytest.fixture(scope="module")
def train(tiny_model_dir):
    """Runs the stage in a folder: (folder, changed fields of the configuration) to the finished stage."""
    base = open_model(tiny_model_dir)
    seeds = PairSet("seed", [Pair(f"p{i}", f"Say {i}", f"{i}!", "seed") for i in range(6)], "hash of the seeds")

    mixture = TrainingMixture([seeds], load_prompts(), base.chat_format, base.tokenizer)

    def run(folder, mesh=None, **fields):
        config = dataclasses.replace(CONFIG, **fields)
        return finetune(folder, base, mixture, config, mesh or MeshShape(), LogicalAxisRules(), reader=DIRECT)

    return run


@pytest.fixture(scope="module")
def permanent(train, tmp_path_factory):
    """A finished stage that was to keep every second state."""
    return train(tmp_path_factory.mktemp("runs") / "permanent", checkpoint_period=2, checkpoint_minutes=1e-6)


def checkpoints_of(stage):
    folder = stage.directory / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir()) if folder.exists() else None


def test_permanent_checkpoints_stay_and_temporary_ones_go(train, permanent, tmp_path):
    assert checkpoints_of(permanent) == [2, 4]
    temporary = train(tmp_path / "temporary", checkpoint_minutes=1e-6)
    assert checkpoints_of(temporary) is None
    assert temporary.outputs == permanent.outputs


def test_what_does_not_change_the_result_may_change_in_between(train, permanent):
    identity = read_json(permanent.directory / "identity.json")
    assert not {"settings.finetune.checkpoint_period", "settings.mesh.fsdp"} & identity.keys()
    again = train(permanent.directory, MeshShape(data=1), step_limit_minutes=1.0, checkpoint_minutes=None)
    assert again.manifest == permanent.manifest
    with pytest.raises(ValueError, match=r"begun with another settings\.finetune\.seed"):
        train(permanent.directory, seed=1)


def test_init_from_takes_weights_alone_from_a_model_or_a_checkpoint(train, permanent, tmp_path):
    from_model = train(tmp_path / "model", init_from=str(permanent.directory / "model"))
    from_checkpoint = train(tmp_path / "checkpoint", init_from=str(permanent.directory / "checkpoints"))
    assert from_model.outputs == from_checkpoint.outputs
    assert from_model.outputs != permanent.outputs
    assert len((tmp_path / "model" / "metrics.jsonl").read_text().splitlines()) == CONFIG.num_steps
    assert from_model.manifest["inputs"]["init_from"] == permanent.outputs["model"]
    assert from_checkpoint.manifest["inputs"]["init_from"].endswith("checkpoints/4")


def test_resume_goes_on_with_everything(train, permanent, tmp_path):
    resumed = train(tmp_path / "resumed", resume=str(permanent.directory / "checkpoints" / "2"))
    assert resumed.outputs == permanent.outputs
    assert len((tmp_path / "resumed" / "metrics.jsonl").read_text().splitlines()) == 2
    with pytest.raises(ValueError, match="belongs to another run: batch_size differ"):
        train(tmp_path / "other", resume=str(permanent.directory / "checkpoints" / "2"), batch_size=3)


def test_init_from_and_resume_exclude_each_other():
    with pytest.raises(ValueError, match="exclude each other"):
        FinetuneConfig(init_from="a", resume="b")


def test_weights_of_another_architecture_are_refused(train, tiny_model_dir, tmp_path):
    import jax

    from humpback_jax.models.llama import Llama, init_params

    base = open_model(tiny_model_dir)
    other = dataclasses.replace(base.card.config, num_layers=1)
    params = init_params(Llama(other), jax.random.key(0))
    save_model_folder(tmp_path / "other", other, params, base.path / "tokenizer", source="random")
    with pytest.raises(ValueError, match="has another architecture than the base model"):
        train(tmp_path / "stage", init_from=str(tmp_path / "other"))
