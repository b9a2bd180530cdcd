"""The verb `prefer`: preference learning from pairs of answers that lie in a file."""

from typing import Any

import click

from humpback_jax.command_options import json_option, process_options
from humpback_jax.runtime.console import print_json
from humpback_jax.runtime.processes import is_leader


@click.command()
@click.argument("pairs", type=click.Path())
@click.option("--model", required=True, help="What is trained: a folder, a stage, a run, a name.")
@click.option("--out", required=True, type=click.Path(), help="Folder for the model and all that was measured.")
@click.option("--reference", help="The model that rewards are relative to (default: that which is trained).")
@click.option("--loss", "kind", type=click.Choice(["dpo", "ipo", "simpo"]), default="dpo", show_default=True)
@click.option("--beta", type=float, help="Of the reward (default: 0.1; SimPO: 2).")
@click.option("--gamma", type=float, default=0.5, show_default=True, help="SimPO: margin that is asked for.")
@click.option("--label_smoothing", type=float, default=0.0, show_default=True, help="Share of pairs in doubt.")
@click.option("--heldout", type=float, default=0.1, show_default=True, help="Share of prompts, or trees, held out.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pairs, drawn by their ids.")
@click.option("--languages", default="en", show_default=True, help="Of Open Assistant, by commas; all: any.")
@click.option("--epochs", type=float, default=1.0, show_default=True)
@click.option("--batch_size", type=click.IntRange(min=1), default=16, show_default=True, help="Pairs per update.")
@click.option("--row_length", type=click.IntRange(min=16), default=2048, show_default=True, help="For both answers.")
@click.option("--rows", type=click.IntRange(min=1), default=1, show_default=True, help="Rows per microbatch.")
@click.option("--learning_rate", type=float, help="At the first update; falls to a tenth (default: 1e-6; LoRA: 1e-4).")
@click.option("--lora_rank", type=click.IntRange(min=1), help="Train adapters of this rank (default: all weights).")
@click.option("--dtype", default="float32", show_default=True, help="Of activations: float32 or bfloat16.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order of the pairs.")
@process_options
@json_option
def prefer(pairs: str, model: str, out: str, reference: str | None, as_json: bool, **options: Any) -> None:
    """Train a model on pairs of answers, of which one is better (DPO, IPO, SimPO), and say what it learned.

    PAIRS has rows of prompt, chosen and rejected, texts or messages (JSONL, Parquet, …), or is an export of Open
    Assistant, whose best-ranked replies are preferred to the others of the same turn.
    """
    from humpback_jax.partitioning import LogicalAxisRules, MeshShape
    from humpback_jax.prompts.prompts import BOTH_TAGS, load_prompts
    from humpback_jax.stages.model import open_named_model
    from humpback_jax.stages.prefer import prefer as prefer_stage

    config = _config(options)
    report = _read(pairs, options["languages"], options["limit"])
    base = open_named_model(model)
    prompts = load_prompts()
    tags = next((tags for tags in (BOTH_TAGS, ("seed",), ("web",)) if _said(prompts, tags) == base.card.tags), ())
    other = None if reference is None else open_named_model(reference)
    shape = MeshShape(), LogicalAxisRules()
    stage = prefer_stage(out, base, report, prompts, config, *shape, tags=tags, reference=other, replaces=False)
    if not is_leader():
        return
    print_json(stage.manifest) if as_json else _print(stage.manifest, out)


def _said(prompts: Any, tags: tuple[str, ...]) -> str:
    return prompts.tagged("", tags).strip()


def _config(options: dict[str, Any]) -> Any:
    """The `PreferenceConfig` of the options."""
    from humpback_jax.data.batching import BatchConfig
    from humpback_jax.models.lora import LoraConfig
    from humpback_jax.stages.finetune import FinetuneConfig
    from humpback_jax.stages.prefer import PreferenceConfig
    from humpback_jax.training.config import ComputeConfig, LoopConfig
    from humpback_jax.training.optimizer import OptimizerConfig
    from humpback_jax.training.preference import SIMPO, PreferenceLoss

    kind, rank = options["kind"], options["lora_rank"]
    beta = options["beta"] or (2.0 if kind == SIMPO else 0.1)
    rate = options["learning_rate"] or (1e-6 if rank is None else 1e-4)
    training = FinetuneConfig(
        batches=BatchConfig(
            batch_size=options["batch_size"],
            row_length=options["row_length"],
            rows_per_microbatch=options["rows"],
            seed=options["seed"],
        ),
        loop=LoopConfig(epochs=options["epochs"]),
        compute=ComputeConfig(dtype=options["dtype"], dropout=0.0),
        optimizer=OptimizerConfig(learning_rate=rate, final_learning_rate=rate / 10, weight_decay=0.0),
        lora=None if rank is None else LoraConfig(rank=rank, alpha=2.0 * rank),
    )
    loss = PreferenceLoss(kind, beta, options["gamma"], options["label_smoothing"])
    return PreferenceConfig(loss, training, options["heldout"])


def _read(path: str, languages: str, limit: int | None) -> Any:
    """The pairs of a file, and a line for what gave none."""
    from humpback_jax.data.preferences import limited, read_preferences

    wanted = () if languages == "all" else tuple(part.strip() for part in languages.split(",") if part.strip())
    report = read_preferences(path, wanted)
    if report.problems and is_leader():
        more = f", and {len(report.problems) - 3} more" if len(report.problems) > 3 else ""
        click.secho(f"no pairs: {'; '.join(report.problems[:3])}{more}", fg="yellow", err=True)
    return report if limit is None else limited(report, limit)


def _print(manifest: dict[str, Any], out: str) -> None:
    """What was trained on, and what pairs that were held out say before and after."""
    counts, figures = manifest["counts"], manifest["figures"]
    rejected = ", ".join(f"{number} {reason}" for reason, number in counts["rejected"].items()) or "none"
    click.echo(f"{counts['in']} pairs read, {counts['out']} trained on; others: {rejected}")
    click.echo(_lengths("trained on", figures["lengths"]))
    if "before" not in figures:
        click.echo(f"Nothing was held out, so nothing was measured. The model is {out}/model.")
        return
    click.echo(_lengths(f"{figures['heldout']} held out", figures["heldout_lengths"]))
    for name, words in (("reward_accuracy", "chosen has the higher reward"),
                        ("likelihood_accuracy", "chosen is likelier per token")):  # fmt: skip
        before, after = (_interval(figures[when][name]) for when in ("before", "after"))
        click.echo(f"  {words:30} before {before}  after {after}")
    for name, words in (("reward_margin", "mean margin of rewards"), ("nll_chosen", "NLL per token, chosen"),
                        ("nll_rejected", "NLL per token, rejected")):  # fmt: skip
        click.echo(f"  {words:30} before {figures['before'][name]:.4f}  after {figures['after'][name]:.4f}")
    click.echo(f"  KL to the reference {figures['kl_per_token']:.5f} nats per answer token")
    click.echo(f"The model is {out}/model.")


def _lengths(what: str, lengths: dict[str, float]) -> str:
    longer = f"the chosen one is longer in {lengths['chosen_is_longer']:.0%}"
    return f"{what}: chosen {lengths['chosen']:.0f} tokens, rejected {lengths['rejected']:.0f}; {longer}"


def _interval(share: dict[str, float]) -> str:
    return f"{share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"
