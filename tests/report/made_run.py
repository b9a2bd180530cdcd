"""A synthetic run directory of any size, written in the stages' own formats; some of its pages are hostile."""

import dataclasses
import json
import math
import random
import re

from humpback_jax.curation.curator import Curator
from humpback_jax.curation.features import Scale
from humpback_jax.curation.signals import SIGNALS
from humpback_jax.curation.twins import KINDS

HOSTILE = (
    "<script>window.hacked = 'script'</script>",
    "</script><script>window.hacked = 'closing script'</script>",
    "<img src=x onerror=\"window.hacked = 'onerror'\">",
    "<svg onload=\"window.hacked = 'svg'\"></svg>",
    '"><iframe srcdoc="<script>parent.hacked = 1</script>"></iframe>',
    "{{ 7 * 7 }} {% raw %} <!-- ]]> --> </textarea></style></title>",
    "\u202egnp.exe\u0000\u2028 \ud83d\ude00 $x^2$",
)
HOSTILE_URL = "javascript:window.hacked='url'//"
WORDS = """
water city engine garden river history music theory light paper number system market winter language stone method
careful ancient public simple rapid quiet modern open common green early strong build explain compare write grow
measure protect travel repair
"""
WORDS = tuple(re.findall(r"\w+", WORDS))
REASONS = ("below_min_score", "instruction_copies_output", "instruction_too_short")
NEEDLE = "xylophone"
# What the curator of a made run knows.
SCALES = {"rating": (3.0, 1.0), "fit": (0.2, 0.3), "prose": (0.5, 0.2), "incomplete": (-1.5, 1.0), "copy": (0.0, 0.5)}
WEIGHTS = {"rating": 0.4, "fit": 1.1, "prose": 0.3, "incomplete": 0.5, "copy": 0.2}


def make_run(folder, count, rounds=(1, 2), chars=700, forced=0.5):
    """Writes a run of `count` pairs, a part of them cut off; pair 3 alone has the word NEEDLE in its text.

    The last candidates are hostile.
    """
    rng = random.Random(0)
    cut_off = max(1, count // 20)
    count -= cut_off
    rows = [candidate(rng, i, count, chars) for i in range(count)]
    rejected = [{"reason": "truncated"} | candidate(rng, count + i, 0, chars) for i in range(cut_off)]
    write_jsonl(folder / "augmented" / "pairs.jsonl", rows)
    write_jsonl(folder / "augmented" / "rejected.jsonl", rejected)
    counts = {"in": count + len(rejected), "out": count, "rejected": {"truncated": len(rejected)}}
    write_manifest(folder, "augmented", counts)
    seeds = [{k: v for k, v in candidate(rng, i, 0, chars).items() if k != "header"} for i in range(8)]
    write_jsonl(folder / "seeds" / "seed.jsonl", seeds)
    write_manifest(
        folder, "seeds", {"in": 8, "out": 8, "rejected": {}}, {"seed": {"read": 8, "kept": 8, "rejected": {}}}
    )
    for t in rounds:
        make_round(folder, t, rows, rng, forced)
    write_evaluation(folder)
    return rows


def make_curated_run(folder, count, rounds=(1, 2), chars=700, keep_fraction=0.2):
    """As `make_run`, by a recipe with a curator and an arm: its pairs have signals, and a fifth of them is kept."""
    rows = make_run(folder, count, (), chars)
    for t in rounds:
        make_curated_round(folder, t, rows, random.Random(t), keep_fraction)
    last = rounds[-1]
    counts = {"in": len(rows), "out": 9, "rejected": {"not_of_this_arm": len(rows) - 9}}
    write_manifest(folder, f"curated{last}_random", counts, settings={"arm": "random"})
    write_evaluation(folder, ("m0", "m1", f"m{last}", f"m{last}_random"))
    return rows


def make_curated_round(folder, t, rows, rng, keep_fraction):
    """Signals of every pair but the first, which was too long to be rated; `leak` is the same for all others."""
    curator = make_curator(folder, t)
    scores = [
        {"id": row["id"], "parsed": False, "signals": make_signals(row, rng), "rationale": ""} for row in rows[1:]
    ]
    for score in scores:
        score["score"] = score["signals"]["rating"]
    write_jsonl(folder / f"scores{t}" / "scores.jsonl", scores)
    histogram = {str(r): sum(int(s["score"] + 0.5) == r for s in scores) for r in range(1, 6)}
    figures = {"parsed": 0, "forced": len(scores), "unscored": 0, "mean_score": 3.0, "histogram": histogram}
    figures |= {"signals": dict.fromkeys(SIGNALS, 0.5), "constant_signals": ["leak"] if t == 1 else []}
    counts = {"in": len(rows), "out": len(scores), "rejected": {"too_long": 1}}
    write_manifest(folder, f"scores{t}", counts, figures)
    good = curator.probabilities([score["signals"] for score in scores])
    rated = [
        row | {"score": score["score"], "signals": score["signals"], "p_good": float(p)}
        for row, score, p in zip(rows[1:], scores, good, strict=True)
    ]
    reasons = selection_reasons(rated, keep_fraction)
    kept = [row for row, reason in zip(rated, reasons, strict=True) if reason is None]
    dropped = [{"reason": "unscored"} | rows[0] | {"score": None, "p_good": None}]
    dropped += [{"reason": reason} | row for row, reason in zip(rated, reasons, strict=True) if reason is not None]
    write_jsonl(folder / f"curated{t}" / "curated.jsonl", kept)
    write_jsonl(folder / f"curated{t}" / "dropped.jsonl", dropped)
    rejected = {reason: sum(row["reason"] == reason for row in dropped) for reason in {r["reason"] for r in dropped}}
    selection = {"by": "curator", "keep_fraction": keep_fraction, "gates": ["fit >= -0.4"], "max_per_domain": 1}
    settings = {"selection": selection, "curator": dataclasses.asdict(curator)}
    counts = {"in": len(rows), "out": len(kept), "rejected": rejected}
    expected = {name: {"value": 0.39, "low": 0.24, "high": 0.57} for name in ("precision", "recall")}
    write_manifest(folder, f"curated{t}", counts, {"expected": expected}, settings)


def make_signals(row, rng):
    chars = {"instruction_chars": len(row["instruction"]), "output_chars": len(row["output"]), "leak": 0.0}
    rating, fit = min(5.0, max(1.0, rng.gauss(3, 1))), rng.gauss(0.2, 0.3)
    drawn = {"rating": rating, "fit": fit, "ifd": math.exp(-fit), "closed": float(rng.random() < 0.5)}
    others = {
        name: rng.random() if SIGNALS[name].better and not SIGNALS[name].asks_model else -2 * rng.random()
        for name in SIGNALS
    }
    return {name: round((others | drawn | chars)[name], 4) for name in SIGNALS}


def selection_reasons(rated, keep_fraction):
    """None for the best by p(good) that pass the gate, a reason for every other pair."""
    cut = sorted((row["p_good"] for row in rated), reverse=True)[round(keep_fraction * len(rated))]
    return [
        "gate_fit" if row["signals"]["fit"] < -0.4 else None if row["p_good"] > cut else "below_best_fraction"
        for row in rated
    ]


def make_curator(folder, t):
    curator = Curator({name: Scale(*scale) for name, scale in SCALES.items()}, WEIGHTS, -0.5)
    (folder / f"curator{t}").mkdir(parents=True)
    (folder / f"curator{t}" / "curator.json").write_text(json.dumps(dataclasses.asdict(curator)))
    auc = {kind: round(0.99 - 0.05 * place, 4) for place, kind in enumerate(KINDS)}
    figures = {"weights": WEIGHTS, "auc_by_kind": auc}
    write_manifest(folder, f"curator{t}", {"in": 40, "out": 40, "rejected": {}}, figures)
    return curator


def candidate(rng, i, count, chars):
    text = " ".join(rng.choice(WORDS) for _ in range(chars // 7))
    row = {
        "id": f"{i:020x}",
        "instruction": f"{rng.choice(['Explain', 'Describe', 'Compare', 'Why is'])} the {rng.choice(WORDS)} {i}?",
        "output": text + (f" {NEEDLE}" if i == 3 else ""),
        "source": f"https://www.site{i % 997}.example/page/{i}",
        "header": f"About {rng.choice(WORDS)}",
    }
    if 0 <= count - 1 - i < len(HOSTILE):
        evil = HOSTILE[count - 1 - i]
        row |= {"instruction": evil, "output": evil + text, "header": evil, "source": HOSTILE_URL + evil}
    return row


def make_round(folder, t, rows, rng, forced):
    scores, kept, dropped = [], [], []
    for row in rows:
        score = min(5.0, max(1.0, rng.gauss(2.5 + 0.5 * t, 1)))
        rating = {"id": row["id"], "score": score, "parsed": True}
        if rng.random() < forced:
            weights = [rng.random() for _ in range(5)]
            rating |= {"parsed": False, "probabilities": [w / sum(weights) for w in weights]}
        else:
            rating["score"] = float(round(score))
        rating["rationale"] = f"Round {t}: {row['header']} is {rng.choice(WORDS)}.\nScore: {rating['score']:.0f}"
        scores.append(rating)
        rated = row | {"score": rating["score"]}
        if rating["score"] >= 4.5:
            kept.append(rated)
        else:
            dropped.append({"reason": REASONS[0] if rng.random() < 0.9 else rng.choice(REASONS[1:])} | rated)
    write_jsonl(folder / f"scores{t}" / "scores.jsonl", scores)
    histogram = {str(r): sum(int(s["score"] + 0.5) == r for s in scores) for r in range(1, 6)}
    parsed = sum(s["parsed"] for s in scores)
    figures = {"parsed": parsed, "forced": len(rows) - parsed, "unscored": 0, "mean_score": 3.0, "histogram": histogram}
    write_manifest(folder, f"scores{t}", {"in": len(rows), "out": len(rows), "rejected": {}}, figures)
    write_jsonl(folder / f"curated{t}" / "curated.jsonl", kept)
    write_jsonl(folder / f"curated{t}" / "dropped.jsonl", dropped)
    reasons = {reason: sum(row["reason"] == reason for row in dropped) for reason in REASONS}
    counts = {"in": len(rows), "out": len(kept), "rejected": reasons}
    write_manifest(folder, f"curated{t}", counts, settings={"selection": {"min_score": 4.5, "keep_fraction": None}})


def write_evaluation(folder, models=("m0", "m1")):
    """Held-out figures of these models; an arm among them is compared with the last round."""
    values = {"base": 2.6, "m0": 2.4, "m1": 2.3, "m2": 2.27, "m2_random": 2.31}
    nll = {
        name: {"nll": values[name], "perplexity": 2.718 ** values[name], "pairs": 5, "tokens": 500}
        for name in ("base", *models)
    }
    figures = {"nll_per_token": nll, "backward_chrf": {"base": 18.5, "m_yx": 24.2}}
    if "m2_random" in models:
        figures["nll_differences"] = [
            {"model": "m2", "rival": "m0", "difference": -0.13, "low": -0.17, "high": -0.09},
            {"model": "m2", "rival": "m2_random", "difference": -0.04, "low": -0.09, "high": 0.01},
        ]
    write_manifest(folder, "evaluation", {"in": 5, "out": 5, "rejected": {}}, figures)
    predictions = [{"id": "h1", "instruction": HOSTILE[0], "base": HOSTILE[2], "m_yx": HOSTILE[3]}]
    write_jsonl(folder / "evaluation" / "backward_instructions.jsonl", predictions)
    (folder / "evaluation" / "alpaca.json").write_text(json.dumps({"win_rate": 51.25, "note": HOSTILE[1]}))
    for name in models:
        rows = [{"step": step, "loss": 3.0 / step**0.1} for step in range(1, 101)]
        write_jsonl(folder / name / "metrics.jsonl", rows)
        figures = {"num_steps": 100, "tokens_per_second": 84.5}
        write_manifest(folder, name, {"in": 8, "out": 8, "rejected": {}}, figures)


def write_manifest(folder, stage, counts, figures=None, settings=None):
    manifest = {"stage": stage, "counts": counts, "figures": figures or {}, "settings": settings or {}, "seconds": 1.5}
    manifest |= {"inputs": {}, "outputs": {stage: "0" * 64}}
    (folder / stage).mkdir(parents=True, exist_ok=True)
    (folder / stage / "manifest.json").write_text(json.dumps(manifest))


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
