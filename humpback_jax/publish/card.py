"""The card of published data: what it is, where it comes from, under which licences, and how it was made."""

from collections.abc import Mapping
from typing import Any

import humpback_jax
from humpback_jax.publish.sources import SourceTable

LISTED = 1000  # sources in the card; all are in the table beside it

_HEAD = """\
---
configs:
{configs}
license: other
task_categories:
- text-generation
tags:
- instruction-backtranslation
- synthetic
---

# {name}

Pairs of an instruction and an answer, made by instruction backtranslation with humpback_jax {version}. Answers are
sections of web pages; **instructions were written by a model**, which also rated the pairs. Nobody has checked them
one by one.

| table | rows | what |
|---|---|---|
{tables}

The same rows lie under `jsonl/` as JSON lines. `score` is the model's rating by its rubric; `p_good` is what a curator
makes of it and of other signals, where the run had one; `reason` says why a candidate was not kept.
"""
_WHAT = {
    "curated": "the pairs that the last round kept",
    "candidates": "all pairs that the last round rated",
    "seeds": "pairs written by people; `test` was never trained on",
}


def data_card(
    name: str,
    rows: Mapping[str, int],
    table: SourceTable,
    manifests: Mapping[str, dict[str, Any]],
    private: bool,
    private_seeds: bool,
) -> str:
    """The card as Markdown, with the YAML that `datasets.load_dataset` reads.

    Args:
      name: of the data set.
      rows: of every table, by `CONFIGURATION/SPLIT`.
      table: sources of the rows.
      manifests: of the stages of the run.
      private: something of the run is withheld.
      private_seeds: the seed pairs are.
    """
    configs: dict[str, list[str]] = {}
    for key in rows:
        config, _, split = key.partition("/")
        configs.setdefault(config, []).append(split)
    lines = [f"| `{key}` | {count:,} | {_WHAT[key.partition('/')[0]]} |" for key, count in rows.items()]
    head = _HEAD.format(
        configs="\n".join(_config(config, splits) for config, splits in configs.items()),
        name=name,
        version=humpback_jax.__version__,
        tables="\n".join(lines),
    )
    return "\n".join(
        [head, _sources(table, private, private_seeds), _counts(manifests), _reproduce(manifests, private)]
    )


def _config(name: str, splits: list[str]) -> str:
    default = "\n  default: true" if name == "curated" else ""
    files = "\n".join(f"  - split: {split}\n    path: data/{name}/{split}-*.parquet" for split in splits)
    return f"- config_name: {name}{default}\n  data_files:\n{files}"


def _sources(table: SourceTable, private: bool, private_seeds: bool) -> str:
    """Every source with its licence, and what is not here."""
    found = table.rows()
    lines = ["## Sources", "", "| source | rows | licence |", "|---|---|---|"]
    lines += [f"| {_cell(row['source'])} | {row['rows']:,} | {_cell(row['licence'])} |" for row in found[:LISTED]]
    if len(found) > LISTED:
        lines += ["", f"and {len(found) - LISTED:,} more: all {len(found):,} are in `sources.jsonl`."]
    lines += ["", "`unknown`: nobody has said. Texts of web pages belong to whoever wrote them."]
    if private:
        seeds = " The seed pairs are private too." if private_seeds else ""
        lines += ["", f"{table.withheld:,} rows of private sources are not part of this data set.{seeds}"]
    return "\n".join([*lines, ""])


def _counts(manifests: Mapping[str, dict[str, Any]]) -> str:
    """What every stage took in, gave out and rejected."""
    lines = ["## Counts", "", "| stage | in | out | rejected |", "|---|---|---|---|"]
    for stage, manifest in manifests.items():
        counts = manifest.get("counts") or {}
        if "in" in counts:
            rejected = ", ".join(f"{reason} {count:,}" for reason, count in counts.get("rejected", {}).items())
            lines.append(f"| `{stage}` | {counts['in']:,} | {counts['out']:,} | {rejected or 'none'} |")
    return "\n".join([*lines, ""])


def _reproduce(manifests: Mapping[str, dict[str, Any]], private: bool) -> str:
    """The command, and the hashes of what every stage has made."""
    config = (
        "The recipe names private sources and is not published."
        if private
        else "`config.gin` is the recipe:\n\n    humpback align --gin_file=config.gin"
    )
    lines = ["## How to reproduce", "", f"humpback_jax {humpback_jax.__version__}. {config}", ""]
    lines += ["SHA-256 of what every stage has made:", "", "| stage | product | SHA-256 |", "|---|---|---|"]
    for stage, manifest in manifests.items():
        for product, digest in (manifest.get("outputs") or {}).items():
            lines.append(f"| `{stage}` | {product} | `{digest}` |")
    return "\n".join([*lines, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
