"""AlpacaEval's output format, and what is counted on the way."""

import json
import pathlib

import pytest

from humpback_jax.evaluation.judging.outputs import generate_outputs
from humpback_jax.evaluation.records import read_outputs
from humpback_jax.inference.requests import EngineConfig
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.stages.jobs import GenerationConfig
from humpback_jax.stages.model import open_named_model

ROWS = [
    {"instruction": "Say a.", "dataset": "d"},
    {"instruction": "x" * 500},
    {"instruction": "Say b.", "dataset": "e"},
]


def test_outputs_are_written_as_the_package_wants_them(tiny_model_dir, tmp_path, shared_data):
    config = GenerationConfig(EngineConfig(4, (128,), 8), shard_size=2, dtype="float32")
    model, prompts = open_named_model(tiny_model_dir), Prompts("{output}", "{instruction}{output}")
    written, made = generate_outputs(tmp_path / "tiny", model, ROWS, "tiny", prompts, config, ("seed",))
    rows = json.loads(pathlib.Path(made["outputs"]).read_text())
    assert rows == written
    reference = json.loads((shared_data / "alpaca_eval" / "humpback-llama-65b.model_outputs.json").read_text())
    assert [list(row) for row in rows] == [list(reference[0])] * 2
    assert [(row["instruction"], row["dataset"]) for row in rows] == [("Say a.", "d"), ("Say b.", "e")]
    assert made["rejected"] == {"prompt_too_long": 1}
    assert (made["instructions"], made["answered"]) == (3, 2)
    _, again = generate_outputs(tmp_path / "tiny", model, ROWS, "tiny", prompts, config, ("seed",))
    assert again == made
    more = [*ROWS, {"instruction": "Say c."}]
    rows, made = generate_outputs(tmp_path / "tiny", model, more, "tiny", prompts, config, ("seed",))
    assert rows[:2] == written and made["answered"] == 3
    fresh, _ = generate_outputs(tmp_path / "fresh", model, more, "tiny", prompts, config, ("seed",))
    assert [row["output"] for row in rows] == [row["output"] for row in fresh]
    lines = [len(path.read_text().splitlines()) for path in sorted((tmp_path / "tiny").rglob("answers.jsonl"))]
    assert sorted(lines) == [1, 2]  # what was answered was not answered again
    with pytest.raises(ValueError, match="was begun with another"):
        generate_outputs(tmp_path / "tiny", model, ROWS, "tiny", prompts, config, ("web",))


def test_instructions_are_read_and_damage_is_named(shared_data, tmp_path):
    assert len(read_outputs(shared_data / "alpaca_eval" / "instructions.json", 5)) == 5
    (tmp_path / "x.json").write_text('[{"instruction": "a"}, {"output": "b"}]')
    with pytest.raises(ValueError, match=r"x\.json: record 1 has no text under 'instruction'"):
        read_outputs(tmp_path / "x.json")


@pytest.mark.slow
def test_the_packages_own_judge_runs_on_our_outputs(fake_judge, tmp_path, monkeypatch):
    pytest.importorskip("alpaca_eval", reason="needs the extra `harness`")
    from humpback_jax.evaluation.judging.outputs import run_alpaca_eval

    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("OPENAI_BASE_URL", fake_judge.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ranks = lambda first: [{"model": "model_1", "rank": first}, {"model": "model_2", "rank": 3 - first}]  # noqa: E731
    fake_judge.reply = lambda prompt, call: str(ranks(1 if prompt.index("good") < prompt.index("poor") else 2))
    for name, output in (("base", "poor"), ("tuned", "good")):
        rows = [{"instruction": f"Say {i}.", "output": f"{output} {i}", "generator": name} for i in range(4)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    figures = run_alpaca_eval(tmp_path / "tuned.json", tmp_path / "base.json", "alpaca_eval_gpt4", tmp_path / "out")
    assert (figures["win_rate"], figures["n_total"]) == (100.0, 4)
    assert "length_controlled_winrate" in figures
