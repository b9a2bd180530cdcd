"""The finetune stage around a training: what stays on the disk, what may change in between, where weights come from."""

import dataclasses
import functools
import pathlib

import pytest

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.batching import BatchConfig
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.pairs import Pair
from humpback_jax.data.readers import DIRECT
from humpback_jax.files import read_json, read_jsonl, write_json
from humpback_jax.gin_utils import parse_recipe
from humpback_jax.partitioning import LogicalAxisRules, MeshShape
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.stages.finetune import FinetuneConfig, finetune, model_identity
from humpback_jax.stages.model import open_model
from humpback_jax.stages.stage import plain
from humpback_jax.stages.versions import differences, flatten
from humpback_jax.training.config import CheckpointConfig, ComputeConfig, LoopConfig
from humpback_jax.training.optimizer import OptimizerConfig
from humpback_jax.weights.model_folder import save_model_folder

CONFIG = FinetuneConfig(
    batches=BatchConfig(batch_size=2, row_length=64),
    loop=LoopConfig(num_steps=4),
    compute=ComputeConfig(dropout=0.0, dtype="float32", remat_policy="none"),
    optimizer=OptimizerConfig(learning_rate=1e-3, final_learning_rate=1e-3),
)


def with_fields(config, **fields):
    """The configuration with other values of these fields, whichever group they are in."""
    groups = {}
    for group in ("batches", "loop", "checkpoints", "compute"):
        names = {field.name for field in dataclasses.fields(getattr(config, group))} & fields.keys()
        groups[group] = dataclasses.replace(getattr(config, group), **{name: fields.pop(name) for name in names})
    return dataclasses.replace(config, **groups, **fields)


@pytest.fixture(scope="module")
def train(tiny_model_dir):
    """Runs the stage in a folder: (folder, changed fields of any group of the configuration) to the finished stage."""
    base = open_model(tiny_model_dir)
    seeds = PairSet("seed", [Pair(f"p{i}", f"Say {i}", f"{i}!", "seed") for i in range(6)], "hash of the seeds")

    mixture = TrainingMixture([seeds], load_prompts(), base.chat_format, base.tokenizer)

    def run(folder, mesh=None, **fields):
        config = with_fields(CONFIG, **fields)
        return finetune(folder, base, mixture, config, mesh or MeshShape(), LogicalAxisRules(), reader=DIRECT)

    return run


@pytest.fixture(scope="module")
def permanent(train, tmp_path_factory):
    """A finished stage that was to keep every second state."""
    return train(tmp_path_factory.mktemp("runs") / "permanent", period=2, minutes=1e-6)


def checkpoints_of(stage):
    folder = stage.directory / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir()) if folder.exists() else None


def test_permanent_checkpoints_stay_and_temporary_ones_go(train, permanent, tmp_path):
    assert checkpoints_of(permanent) == [2, 4]
    temporary = train(tmp_path / "temporary", minutes=1e-6)
    assert checkpoints_of(temporary) is None
    assert temporary.outputs == permanent.outputs


def test_what_does_not_change_the_result_may_change_in_between(train, permanent):
    identity = read_json(permanent.directory / "identity.json")
    assert not {"settings.finetune.period", "settings.finetune.minutes", "settings.mesh.fsdp"} & identity.keys()
    again = train(permanent.directory, MeshShape(data=1), step_limit_minutes=1.0, minutes=None)
    assert again.manifest == permanent.manifest


def test_a_checkpoint_knows_the_data_it_was_trained_on(permanent):
    meta = read_json(permanent.directory / "checkpoints" / "2" / "meta" / "metadata")
    order = {"batch_size": 2, "batch_unit": "examples", "row_length": 64, "rows_per_microbatch": 1, "packing": True}
    inputs = {"base": permanent.manifest["inputs"]["base"], "seed": "hash of the seeds"}
    data = {"chat_format": "chatml", "tags": {"seed": ["forward"]}, "prompts": {}}
    assert meta == inputs | data | order | {"seed": 0}  # the seed of the order has the name of the seed pairs


@pytest.mark.parametrize("name", ["m_yx", "m0", "m1"])
def test_a_run_that_was_begun_before_settings_had_groups_goes_on(name, tiny_model, tmp_path):
    """Identities of stages of experiments/quickstart.gin, recorded when all fields were those of one class."""
    recorded = read_json(pathlib.Path(__file__).with_name("recorded_identities.json"))[name]
    write_json(tmp_path / name / "identity.json", recorded)
    write_json(tmp_path / name / "manifest.json", {"stage": name})
    card = dataclasses.replace(tiny_model.card, params_sha256=recorded["inputs.base"])
    base = dataclasses.replace(tiny_model, card=card, chat_format=ChatFormat(recorded["settings.chat_format"]))
    directions = {key.rpartition(".")[2]: value for key, value in recorded.items() if key.startswith("settings.tags.")}
    sets = [
        PairSet(key, [], recorded[f"inputs.{key}"], direction, tuple(tags))
        for key, (direction, *tags) in directions.items()
    ]
    mixture = TrainingMixture(sets, load_prompts(), base.chat_format, base.tokenizer)
    recipe = parse_recipe(["experiments/quickstart.gin"], [])
    config = {"m_yx": recipe.backward, "m0": recipe.seed_model, "m1": recipe.forward}[name]
    go_on = functools.partial(finetune, tmp_path / name, base, mixture)
    assert go_on(config, MeshShape(), LogicalAxisRules()).manifest == {"stage": name}
    settings, inputs = model_identity(base.sha256, mixture, with_fields(config, epochs=2.0))
    wanted = flatten({"settings": plain(settings), "inputs": inputs})
    assert differences(recorded, wanted) == {"settings.finetune.epochs": (config.loop.epochs, 2.0)}


@pytest.mark.parametrize(
    ("tags", "read"), [((), set()), (("web",), {"web_tag"}), (("web", "seed"), {"seed_tag", "web_tag"})]
)
def test_a_model_depends_on_the_texts_that_its_examples_hold(tiny_model, tags, read):
    for direction, more in (("forward", set()), ("backward", {"backward_template"})):
        sets = [PairSet("seed", [], "s", direction, tags)]
        mixture = TrainingMixture(sets, load_prompts(), tiny_model.chat_format, tiny_model.tokenizer)
        assert set(model_identity("b", mixture, CONFIG)[0]["prompts"]) == read | more


def test_every_example_has_the_updates_that_read_it(train, tmp_path):
    stage = train(tmp_path / "m0", num_steps=5)
    updates = {row["id"]: row["updates"] for _, row in read_jsonl(stage.directory / "trained_on.jsonl")}
    metrics = [row for _, row in read_jsonl(stage.directory / "metrics.jsonl")]
    assert list(updates) == [f"seed/p{i}" for i in range(6)]
    assert sorted(step for steps in updates.values() for step in steps) == sorted([1, 2, 3, 4, 5] * 2)
    assert all(len(set(steps)) == len(steps) for steps in updates.values())
    assert len(metrics) == 5


def test_init_from_takes_weights_alone_from_a_model_or_a_checkpoint(train, permanent, tmp_path):
    from_model = train(tmp_path / "model", init_from=str(permanent.directory / "model"))
    from_checkpoint = train(tmp_path / "checkpoint", init_from=str(permanent.directory / "checkpoints"))
    assert from_model.outputs == from_checkpoint.outputs
    assert from_model.outputs != permanent.outputs
    assert len((tmp_path / "model" / "metrics.jsonl").read_text().splitlines()) == CONFIG.loop.num_steps
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
        CheckpointConfig(init_from="a", resume="b")


def test_weights_of_another_architecture_are_refused(train, tiny_model_dir, tmp_path):
    import jax

    from humpback_jax.models.llama import Llama, init_params

    base = open_model(tiny_model_dir)
    other = dataclasses.replace(base.card.config, num_layers=1)
    params = init_params(Llama(other), jax.random.key(0))
    save_model_folder(tmp_path / "other", other, params, base.path / "tokenizer", source="random")
    with pytest.raises(ValueError, match="has another architecture than the base model"):
        train(tmp_path / "stage", init_from=str(tmp_path / "other"))
