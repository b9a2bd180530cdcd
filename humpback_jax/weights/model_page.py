"""The page of an exported model, its README.md: what it is, what it was trained on, how to ask it.

Only what the model's card and the run beside it say; what is not known has no line.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2

from humpback_jax import run_files
from humpback_jax.files import PathLike, read_json
from humpback_jax.weights.exported_chat import ExportedChat
from humpback_jax.weights.model_folder import ModelCard
from humpback_jax.weights.origins import NOTHING_SAID, Origins

PAGE = "README.md"
_SETTINGS = {
    "row_length": "Tokens per row",
    "num_epochs": "Epochs",
    "param_dtype": "dtype of the parameters",
    "dtype": "dtype of the computation",
    "dropout": "Dropout",
}


def model_page(
    model: PathLike,
    card: ModelCard,
    chat: ExportedChat,
    dtype: str,
    folder: str,
    origins: Origins = NOTHING_SAID,
) -> str:
    """Markdown of the page.

    Args:
      model: the native model folder; where it is `model/` of a stage, the manifests of its run give data and figures.
      card: of the model.
      chat: how it is asked.
      dtype: of the exported tensors.
      folder: how readers name the exported model.
      origins: where what it knows came from, and licences.
    """
    run = _run_of(pathlib.Path(model))
    values = _asking(card, chat, folder) | _made_of(card, run)
    values |= {"sizes": _sizes(card, dtype), "origins": origins, "hub_licence": origins.hub_licence}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("humpback_jax", "weights/templates"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    return environment.get_template("model_page.md.j2").render(values).rstrip() + "\n"


def _asking(card: ModelCard, chat: ExportedChat, folder: str) -> dict[str, Any]:
    """How the model is asked."""
    training = card.training
    return {
        "template": chat.template,
        "folder": folder,
        "question": "Why is the sky blue?",
        "tags": card.tags,
        "chat_format": card.chat_format,
        "end_ids": chat.end_ids,
        "end_tokens": chat.end_tokens,
        "backward": any(how[0] == "backward" for how in training.get("tags", {}).values()),
        "backward_prompt": training.get("prompts", {}).get("backward_template", ""),
    }


def _made_of(card: ModelCard, run: pathlib.Path | None) -> dict[str, Any]:
    """Where the weights came from, and what they were trained on."""
    training = card.training
    stage, base = training.get("stage", ""), _name(training.get("base", ""))
    return {
        "title": f"{training['base_name']}, {stage}" if stage else card.config.name,
        "made": f"{base}, finetuned by instruction backtranslation ({stage}).",
        "trained": bool(training),
        "base": base,
        "source": _name(card.source),
        "sha256": card.params_sha256,
        "training": _training(training),
        "data": _data(run, stage, training),
        "nll": _manifest(run, run_files.EVALUATION_STAGE).get("figures", {}).get("nll_per_token", {}),
    }


def _sizes(card: ModelCard, dtype: str) -> dict[str, Any]:
    config = card.config
    return {
        "Parameters": f"{config.num_params:,}",
        "Layers": config.num_layers,
        "Width": config.emb_dim,
        "Vocabulary": config.vocab_size,
        "Window": f"{config.max_position_embeddings} tokens",
        "Rotary base": config.rope_theta,
        "dtype": dtype,
    }


def _run_of(model: pathlib.Path) -> pathlib.Path | None:
    """The run directory of `RUN_DIR/STAGE/model`, or None for a model that lies elsewhere."""
    stage = model.absolute().parent
    return stage.parent if model.name == run_files.MODEL and (stage / run_files.MANIFEST).is_file() else None


def _manifest(run: pathlib.Path | None, stage: str) -> dict[str, Any]:
    """What a stage of the run says, empty where it is not there."""
    path = run / stage / run_files.MANIFEST if run else None
    return read_json(path) if path and path.is_file() else {}


def _name(path: str) -> str:
    """A file or folder without the folders of this machine above it; other words as they are."""
    first, comma, rest = path.partition(", ")
    return (pathlib.PurePath(first).name if first.startswith(("/", "~", ".")) else first) + comma + rest


def _training(training: Mapping[str, Any]) -> dict[str, Any]:
    settings = training.get("finetune", {})
    rows = {"Updates": training.get("num_steps"), "Examples or tokens per update": training.get("batch_size")}
    rows |= {label: settings.get(name) for name, label in _SETTINGS.items()}
    optimizer, lora = settings.get("optimizer") or {}, settings.get("lora")
    rows["Learning rate"] = optimizer.get("learning_rate")
    rows["Low-rank adapters"] = lora and f"rank {lora['rank']}, {', '.join(lora['targets'])}"
    tagged = {name: " ".join(how[1:]) or "none" for name, how in training.get("tags", {}).items()}
    rows["Tags in training"] = ", ".join(f"{name}: {tags}" for name, tags in tagged.items())
    return {name: value for name, value in rows.items() if value not in (None, "")}


def _data(run: pathlib.Path | None, stage: str, training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Counts of what led to the training set, in the order of the algorithm."""
    rows = [{"what": "seed and held-out pairs", "counts": _manifest(run, run_files.SEEDS_STAGE).get("counts")}]
    web = "web" in training.get("tags", {})
    if web:
        t = run_files.round_of(stage, run_files.MODEL_STAGE)
        curated = "" if t is None else run_files.CURATED_STAGE.format(t=t)
        for what, name in (
            ("segments of web pages", run_files.SEGMENTS_STAGE),
            ("instructions written for segments", run_files.AUGMENTED_STAGE),
            ("pairs kept by their ratings", curated),
        ):
            rows.append({"what": what, "counts": _manifest(run, name).get("counts") if name else None})
    rows.append({"what": "examples of the training", "counts": training.get("counts")})
    return [row for row in rows if row["counts"]]
