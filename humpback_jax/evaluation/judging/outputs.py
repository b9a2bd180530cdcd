"""Answers to AlpacaEval's instructions in its own output format, and its own package where that is wanted."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax.evaluation.records import read_outputs, write_records
from humpback_jax.files import PathLike, read_json, read_jsonl
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.run_files import ANSWERS, MANIFEST, MODEL_OUTPUTS
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.generate import generate, generation_settings
from humpback_jax.stages.jobs import GenerationConfig, longest_prompt
from humpback_jax.stages.model import ModelHandle


def generate_outputs(
    directory: PathLike,
    model: ModelHandle,
    rows: Sequence[Mapping[str, Any]],
    generator: str,
    prompts: Prompts,
    config: GenerationConfig,
    tags: Sequence[str],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Generates an answer to every instruction in resumable shards and writes DIRECTORY/model_outputs.json.

    A row is `{"dataset", "instruction", "output", "generator"}`, in the order of `rows`. An instruction that does not
    fit the engine has no row and is counted; an answer that the limit cut is kept and counted. With more rows than
    DIRECTORY has answers for, only the new ones are generated, in a folder of it.

    Returns:
      The rows, and figures of the generation; `outputs` among them is the path of the file.
    """
    names = {f"{number:05d}": row for number, row in enumerate(rows)}
    instructions = [(name, row["instruction"]) for name, row in names.items()]
    settings = generation_settings(model, prompts, config, tags)
    answers = _answers_there(epath.Path(directory), model.sha256, settings)
    left = [(name, text) for name, text in instructions if answers.get(name, {}).get("instruction") != text]
    if answers:  # what does not fit has no answer and would not get one
        all_ids = model.all_prompt_ids([prompts.tagged(text, tags) for _, text in left])
        limit = longest_prompt(model, config)
        left = [asked for asked, ids in zip(left, all_ids, strict=True) if len(ids) <= limit]
    if left or not answers:
        stage = generate(directory, model, left or instructions, prompts, config, tags)
        answers |= {row["id"]: row for _, row in read_jsonl(stage.directory / ANSWERS)}
    answers = {name: answers[name] for name, text in instructions if answers.get(name, {}).get("instruction") == text}
    outputs = []
    for name, row in names.items():
        if name in answers:
            asked = {"dataset": row.get("dataset"), "instruction": row["instruction"]}
            outputs.append(asked | {"output": answers[name]["output"], "generator": generator})
    path = epath.Path(directory) / MODEL_OUTPUTS
    if is_leader():
        write_records(path, outputs)
    lengths = [len(row["output"]) for row in outputs]
    figures = {
        "outputs": str(path),
        "generator": generator,
        "tags": list(tags),
        "instructions": len(rows),
        "answered": len(outputs),
        "rejected": {"prompt_too_long": len(rows) - len(outputs)} if len(outputs) < len(rows) else {},
        "truncated": sum(answer["truncated"] for answer in answers.values()),
        "empty": lengths.count(0),
        "avg_length": int(sum(lengths) / len(lengths)) if lengths else None,
    }
    return outputs, figures


def _answers_there(folder: epath.Path, model: str, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Answers by id that earlier calls have left in a folder.

    Raises:
      ValueError: they are another model's, or of other settings.
    """
    answers: dict[str, dict[str, Any]] = {}
    for manifest in [folder / MANIFEST, *sorted(folder.glob(f"*/{MANIFEST}"))]:
        if not manifest.exists():
            continue
        made = read_json(manifest)
        if made["inputs"].get("model") != model or made["settings"] != settings:
            raise ValueError(
                f"{folder} was begun with another model, or other settings or tags; give another folder as --out"
            )
        answers |= {row["id"]: row for _, row in read_jsonl(manifest.parent / ANSWERS)}
    return answers


def run_alpaca_eval(outputs: PathLike, reference: PathLike, annotator: str, directory: PathLike) -> dict[str, Any]:
    """The alpaca_eval package's own judge on two files of outputs: its row of the leaderboard.

    The length-controlled figure needs a table that the package downloads; where it cannot, the reason stands instead.

    Raises:
      ValueError: the package is not installed; says how to install it.
    """
    try:
        import alpaca_eval
    except ImportError as error:
        raise ValueError(f"--annotator needs the alpaca_eval package ({error}): pip install alpaca_eval") from error
    epath.Path(directory).mkdir(parents=True, exist_ok=True)
    leaderboard, annotations = alpaca_eval.evaluate(
        model_outputs=read_outputs(outputs),
        reference_outputs=read_outputs(reference),
        annotators_config=annotator,
        name=epath.Path(outputs).parent.name,
        output_path=str(directory),
        fn_metric="get_winrate",
        sort_by="win_rate",
        precomputed_leaderboard=None,
        is_cache_leaderboard=False,
        is_return_instead_of_print=True,
    )
    return _plain(leaderboard.iloc[0].to_dict()) | _length_controlled(annotations)


def _length_controlled(annotations: Any) -> dict[str, Any]:
    from alpaca_eval import metrics

    try:
        figures = metrics.get_length_controlled_winrate(annotations, save_weights_dir=None)
    except Exception as error:  # whatever its download client raises without a network
        return {"length_controlled_winrate": None, "why_not": f"{type(error).__name__}: {error}"}
    return _plain({key: figures[key] for key in ("length_controlled_winrate", "lc_standard_error")})


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy's scalars as Python's, which JSON knows."""
    return {key: value.item() if hasattr(value, "item") else value for key, value in figures.items()}
