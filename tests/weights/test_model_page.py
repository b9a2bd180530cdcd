"""The README of an exported model: what the run recorded, how to ask, and nothing that is not known."""

import json
import pathlib
import sys

import pytest

from humpback_jax.weights.convert import export_weights, import_weights
from humpback_jax.weights.model_folder import save_model_folder
from humpback_jax.weights.origins import Origins

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import test_exported_chat as toy
import tiny_models

TRAINING = {
    "stage": "m2",
    "base": "/home/somebody/bases/toy",
    "base_name": "toy",
    "counts": {"in": 105, "out": 104, "rejected": {"too_long": 1}},
    "num_steps": 70,
    "batch_size": 4,
    "tags": {"seed": ["forward", "seed"], "web": ["forward", "web"]},
    "finetune": {"row_length": 64, "optimizer": {"learning_rate": 2e-5}, "lora": None},
}
MANIFESTS = {
    "seeds": {"counts": {"in": 33, "out": 31, "rejected": {"empty_output": 2}}},
    "segments": {
        "inputs": {"pages": "hash"},
        "counts": {"in": 900, "out": 500, "rejected": {"too_short": 400}},
    },
    "curated2": {"counts": {"in": 480, "out": 74, "rejected": {"below": 406}}},
    "evaluation": {"figures": {"nll_per_token": {"base": {"nll": 2.125, "perplexity": 8.373, "pairs": 3}}}},
}


@pytest.fixture
def run(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "run"
    for name, manifest in (MANIFESTS | {"m2": {}}).items():
        (folder / name).mkdir(parents=True)
        (folder / name / "manifest.json").write_text(json.dumps(manifest))
    save_model_folder(
        folder / "m2" / "model",
        toy.CONFIG,
        toy.random_params(),
        toy.write_tokenizer(tmp_path / "tokenizer"),
        source="/home/somebody/bases/toy, finetuned as m2",
        chat_format="chatml",
        tags=toy.TAGS,
        training=TRAINING,
    )
    return folder


def test_the_page_says_what_the_run_recorded(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    origins = Origins(("pages.warc.gz",), {"base model": "apache-2.0"})
    export_weights(run / "m2" / "model", out, show_progress=False, origins=origins)
    page = (out / "README.md").read_text()
    for words in (
        "toy, m2",
        "| seed and held-out pairs | 33 | 31 | empty_output 2 |",
        "| segments of web pages | 900 | 500 | too_short 400 |",
        "| pairs kept by their ratings | 480 | 74 | below 406 |",
        "| examples of the training | 105 | 104 | too_long 1 |",
        "| base | 2.125 | 8.373 | 3 |",
        "`pages.warc.gz`",
        "| Learning rate | 2e-05 |",
        f"> {toy.TAGS}",
        'tags=""',
        "`<|im_end|>` (259) or `</s>` (257)",
        "Chat format: `chatml`.",
        "license: apache-2.0",
        "- base model: apache-2.0",
    ):
        assert words in page, words
    assert "/home" not in page and "None" not in page and "{" not in page.replace('{"', "").replace("[{", "")


def test_a_model_away_from_its_run_says_what_it_knows(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (run / "m2" / "model").rename(tmp_path / "moved")
    export_weights(tmp_path / "moved", tmp_path / "out", show_progress=False)
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| examples of the training | 105 | 104 | too_long 1 |" in page and "Chat format" in page
    assert "segments of web pages" not in page and "## Figures" not in page and "icence" not in page


def test_a_base_model_is_not_called_trained(tmp_path: pathlib.Path) -> None:
    config = tiny_models.CONFIGS["llama1"]
    source = tiny_models.write_hf_folder(tmp_path / "hf", config, tiny_models.random_tensors(config))
    import_weights(source, tmp_path / "native")
    export_weights(tmp_path / "native", tmp_path / "out", show_progress=False)
    page = (tmp_path / "out" / "README.md").read_text()
    assert "This is a base model" in page and "## Training" not in page and "## Data" not in page
