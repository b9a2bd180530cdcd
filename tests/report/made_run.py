"""A synthetic run directory of any size, written in the stages' own formats; some of its pages are hostile."""

import json
import random
import re

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


def write_evaluation(folder):
    nll = {
        name: {"nll": value, "perplexity": 2.718**value, "pairs": 5, "tokens": 500}
        for name, value in (("base", 2.6), ("m0", 2.4), ("m1", 2.3))
    }
    figures = {"nll_per_token": nll, "backward_chrf": {"base": 18.5, "m_yx": 24.2}}
    write_manifest(folder, "evaluation", {"in": 5, "out": 5, "rejected": {}}, figures)
    predictions = [{"id": "h1", "instruction": HOSTILE[0], "base": HOSTILE[2], "m_yx": HOSTILE[3]}]
    write_jsonl(folder / "evaluation" / "backward_instructions.jsonl", predictions)
    (folder / "evaluation" / "alpaca.json").write_text(json.dumps({"win_rate": 51.25, "note": HOSTILE[1]}))
    for name in ("m0", "m1"):
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
