"""Log-likelihoods and accuracies of real models on real questions, against transformers."""

import os
import pathlib

import numpy as np
import pytest

from humpback_jax.evaluation.benchmarks.continuations import ContinuationScorer
from humpback_jax.evaluation.benchmarks.multiple_choice import TASKS, accuracy_figures, read_task, score_items
from humpback_jax.stages.model import open_named_model
from humpback_jax.weights.convert import export_weights, import_weights

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
LIMIT = int(os.environ.get("HUMPBACK_PARITY_ITEMS", "50"))


@pytest.fixture(scope="module")
def stories(shared_data, tmp_path_factory):
    """(our model folder, the same for transformers): its reading of a bare tokenizer.model is another tokenization."""
    folder = tmp_path_factory.mktemp("stories260K")
    import_weights(shared_data / "model" / "stories260K" / "hf", folder / "native")
    export_weights(folder / "native", folder / "exported")
    return folder / "native", folder / "exported"


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    from humpback_jax.runtime.compilation_cache import default_cache

    folder = pathlib.Path(default_cache()) / "models" / "smollm2_135m"
    if not folder.is_dir():
        pytest.skip("needs `humpback weights fetch smollm2_135m`")
    exported = tmp_path_factory.mktemp("smollm2") / "exported"
    export_weights(folder, exported)
    return folder, exported


def theirs(folder, items):
    """float [choices]: log-likelihoods by transformers, one sequence at a time, every text in one tokenization."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    values = []
    with torch.no_grad():
        for item in items:
            for text in item.continuations:
                start = len(tokenizer(item.context).input_ids)
                ids = tokenizer(item.context + text).input_ids[-model.config.max_position_embeddings - 1 :]
                start -= len(tokenizer(item.context + text).input_ids) - len(ids)
                logits = model(torch.tensor([ids[:-1]])).logits[0].double()
                log_probs = torch.log_softmax(logits, -1)
                places = range(max(start, 1), len(ids))
                values.append(sum(log_probs[i - 1, ids[i]].item() for i in places))
    return np.asarray(values)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("weights", ["stories", "smollm2"])
def test_log_likelihoods_and_accuracies_are_those_of_transformers(weights, name, shared_data, request, cached_scorer):
    folder, exported = request.getfixturevalue(weights)
    items = read_task(name, shared_data / "benchmarks", limit=LIMIT)
    results = score_items(cached_scorer(folder), items)
    ours = np.concatenate([result["log_likelihoods"] for result in results])
    expected = theirs(exported, items)
    print(f"{weights} {name}: largest difference {np.abs(ours - expected).max():.2e} nats, {accuracy_figures(results)}")
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    start = 0
    for item, result in zip(items, results, strict=True):
        values = expected[start : start + len(item.continuations)]
        start += len(item.continuations)
        assert result["correct"] == (int(np.argmax(values)) == item.answer)


@pytest.fixture(scope="module")
def cached_scorer():
    scorers = {}

    def scorer(folder):
        if folder not in scorers:
            scorers.clear()
            scorers[folder] = ContinuationScorer(open_named_model(folder))
        return scorers[folder]

    return scorer
