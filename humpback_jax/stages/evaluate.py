"""Held-out evaluation: how likely models find true answers, and how close backward instructions come to true ones."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from humpback_jax.data.examples import supervised_examples
from humpback_jax.data.pairs import Pair
from humpback_jax.files import PathLike, read_json, sha256_of_bytes, sha256_of_file, write_json, write_jsonl
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.prompts.prompts import BOTH_TAGS, Prompts
from humpback_jax.ranges import OneOf, check_fields
from humpback_jax.run_files import IDENTITY, MANIFEST, MEASURED, PREDICTIONS
from humpback_jax.runtime.processes import is_leader
from humpback_jax.stages.items import Prompted
from humpback_jax.stages.jobs import GenerationConfig, longest_prompt
from humpback_jax.stages.model import ModelHandle, spans_hosts
from humpback_jax.stages.stage import Claim, Identity, Stage, StageResult, begin_stage, plain
from humpback_jax.stages.versions import identity_of

RESAMPLES = 9999


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Engine for held-out evaluation, and the tags of its instructions; backward instructions are greedy."""

    generation: GenerationConfig = GenerationConfig()
    tags: tuple[Annotated[str, OneOf(*BOTH_TAGS)], ...] = ("seed",)

    def __post_init__(self) -> None:
        check_fields(self)


def evaluate(
    directory: PathLike,
    heldout: Sequence[Pair],
    heldout_sha256: str,
    forward_models: Mapping[str, ModelHandle],
    backward_models: Mapping[str, ModelHandle],
    prompts: Prompts,
    config: EvaluationConfig,
    compared: Sequence[tuple[str, str]] = (),
) -> Stage:
    """Measures every model on held-out seed pairs.

    Forward models: negative log-likelihood in nats per answer token, prompted with the seed tag unless the config says
    otherwise. Backward models: chrF (0-100, sacrebleu) of the greedy instruction against the true one. `compared`:
    names of two forward models, for the difference of their likelihoods with its interval over the pairs.
    """
    hashes = {name: model.sha256 for name, model in forward_models.items()}
    backward_hashes = {name: model.sha256 for name, model in backward_models.items()}
    identity = evaluation_identity(heldout_sha256, hashes, backward_hashes, prompts, config, compared)
    claim = begin_stage(directory, *identity, shared=spans_hosts(config.generation.engine), replaces=True)
    if claim.finished:
        return claim.stage

    _keep_other_figures(claim)
    kept = _Measured(claim, plain([identity[0], heldout_sha256]))
    measured = {}
    for name, model in forward_models.items():
        found = kept.find("forward", model)
        if found is None:
            sums, tokens = heldout_log_likelihoods(model, heldout, prompts, config)
            found = kept.keep("forward", model, {"sums": sums.tolist(), "tokens": tokens.tolist()})
        measured[name] = np.asarray(found["sums"]), np.asarray(found["tokens"])
    nll = {name: _nll(*each) for name, each in measured.items()}
    written = {}
    for name, model in backward_models.items():
        found = kept.find("backward", model)
        written[name] = found or kept.keep("backward", model, _instructions(model, heldout, prompts, config))
    if not is_leader():
        return claim.finish(None)
    references = {pair.id: pair.instruction for pair in heldout}
    rows = [
        {"id": name, "instruction": instruction} | {model: texts[name] for model, texts in written.items()}
        for name, instruction in references.items()
    ]
    write_jsonl(claim.folder / PREDICTIONS, rows)
    chrf = {name: _chrf(texts, references) for name, texts in written.items()}
    out = min(row["pairs"] for row in nll.values())
    too_long = len(heldout) - out
    counts = {"in": len(heldout), "out": out, "rejected": {"too_long": too_long} if too_long else {}}
    outputs = {"predictions": sha256_of_file(claim.folder / PREDICTIONS)}
    figures: dict[str, Any] = {"nll_per_token": nll, "backward_chrf": chrf}
    if compared:
        figures["nll_differences"] = [
            {"model": a, "rival": b} | _difference(measured[a], measured[b]) for a, b in compared
        ]
    return claim.finish(StageResult(counts, outputs, figures))


def evaluation_identity(
    heldout: str,
    forward_models: Mapping[str, str],
    backward_models: Mapping[str, str],
    prompts: Prompts,
    config: EvaluationConfig,
    compared: Sequence[tuple[str, str]],
) -> Identity:
    """What decides an evaluation, with the hashes of the held-out pairs and the models by their names."""
    inputs = {"heldout": heldout, **forward_models}
    inputs |= {f"backward {name}": sha256 for name, sha256 in backward_models.items()}
    texts = prompts.tag_texts(config.tags)
    texts |= {"backward_template": prompts.backward_template} if backward_models else {}
    return {"evaluation": config, "prompts": texts} | ({"compared": compared} if compared else {}), inputs


class _Measured:
    """What was measured of each model, in files of its own: a cut-off evaluation, or one of more models, goes on."""

    def __init__(self, claim: Claim, decided_by: list[Any]) -> None:
        self._settings, self._heldout = decided_by
        self._folder, self._folders = claim.folder, [claim.folder, *claim.earlier]
        self._values: dict[str, Any] = {}

    def find(self, kind: str, model: ModelHandle) -> Any:
        """What was kept, None where nothing was."""
        name = self._name(kind, model)
        if name in self._values:
            return self._values[name]
        paths = [folder / MEASURED / name for folder in self._folders]
        path = next((path for path in paths if path.exists()), None)
        return None if path is None else self.keep(kind, model, read_json(path))

    def keep(self, kind: str, model: ModelHandle, values: Any) -> Any:
        """The values themselves, once the leader has written them down."""
        name = self._name(kind, model)
        self._values[name] = values
        if is_leader():
            write_json(self._folder / MEASURED / name, values)
        return values

    def _name(self, kind: str, model: ModelHandle) -> str:
        backward, texts = kind == "backward", self._settings["prompts"]
        texts = {name: text for name, text in texts.items() if backward == (name == "backward_template")}
        decided_by = [self._settings["evaluation"], texts, self._heldout, model.sha256]
        return f"{kind}-{sha256_of_bytes(json.dumps(decided_by, sort_keys=True).encode())[:16]}.json"


def _keep_other_figures(claim: Claim) -> None:
    """Takes along what other evaluations left in an earlier version, where all models of that are still the same."""
    for folder in claim.earlier if is_leader() else ():
        begun = identity_of(folder) or {}
        models = {name.removeprefix("inputs."): value for name, value in begun.items() if name.startswith("inputs.")}
        for path in folder.glob("*.json") if models.items() <= claim.inputs.items() else ():
            if path.name not in (IDENTITY, MANIFEST) and not (claim.folder / path.name).exists():
                path.copy(claim.folder / path.name)


def heldout_log_likelihoods(
    model: ModelHandle, pairs: Sequence[Pair], prompts: Prompts, config: EvaluationConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood of the answer and its tokens, float64 and int64 [n], of the pairs that fit the engine."""
    engine_config = config.generation.engine
    room = min(engine_config.max_prompt_length, model.card.config.max_position_embeddings)
    examples, _ = supervised_examples(
        pairs, model.tokenizer, model.chat_format, "forward", prompts, config.tags, room - 1
    )
    if not examples:
        raise ValueError(
            f"none of {len(pairs)} held-out pairs fits the {room} tokens of the engine and the model; raise "
            "EngineConfig.prompt_buckets of evaluation, or give other held-out pairs"
        )
    engine = model.engine(engine_config, config.generation.dtype, config.generation.weight_dtype)
    sums = engine.log_likelihoods([(e.id, e.prompt_ids.tolist(), e.answer_ids.tolist()) for e in examples])
    return sums, np.asarray([len(e.answer_ids) for e in examples])


def _nll(sums: np.ndarray, tokens: np.ndarray) -> dict[str, Any]:
    """Mean negative log-likelihood per answer token, and over how many."""
    nll, total = -float(sums.sum()) / int(tokens.sum()), int(tokens.sum())
    return {"nll": round(nll, 4), "perplexity": round(math.exp(nll), 3), "pairs": len(sums), "tokens": total}


def _difference(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """NLL per token of the first model minus the second's, and its 95 % interval: pairs are drawn again, 9,999 times.

    Both have measured the same pairs: they share the tokenizer and the engine.
    """
    (ours, tokens), (theirs, _) = first, second
    drawn = np.random.default_rng(0).integers(0, len(tokens), (RESAMPLES, len(tokens)))
    resampled = (theirs - ours)[drawn].sum(axis=1) / tokens[drawn].sum(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    difference = float((theirs - ours).sum() / tokens.sum())
    return {"difference": round(difference, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def _instructions(
    model: ModelHandle, pairs: Sequence[Pair], prompts: Prompts, config: EvaluationConfig
) -> dict[str, str]:
    """Greedy backward instruction per pair id; empty where the prompt does not fit."""
    items = [Prompted(pair.id, model.prompt_ids(prompts.backward(pair.output))) for pair in pairs]
    fitting = [item for item in items if len(item.prompt_ids) <= longest_prompt(model, config.generation)]
    greedy = dataclasses.replace(config.generation, sampling=SamplingConfig(temperature=0.0))
    engine = model.engine(greedy.engine, greedy.dtype, greedy.weight_dtype)
    completions = engine.generate(greedy.requests(fitting), greedy.seed, model.stop_ids)
    written = {c.id: model.tokenizer.decode(c.token_ids).strip() for c in completions}
    return {pair.id: written.get(pair.id, "") for pair in pairs}


def _chrf(predictions: Mapping[str, str], references: Mapping[str, str]) -> float:
    from sacrebleu.metrics import CHRF

    texts = [predictions[name] for name in references]
    return round(CHRF().corpus_score(texts, [list(references.values())]).score, 2)
