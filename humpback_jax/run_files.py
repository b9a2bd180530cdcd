"""The names of everything in a run directory, each with a sentence; docs/run_directory.md is this file as a page.

The comment above a name is its sentence on the page. `{…}` stands for what differs: fill it with `str.format`.
"""

# The run directory (RUN_DIR).

# The gin text of the last `humpback align`, as it was given.
CONFIG = "config.gin"
# Every value that gin set, the defaults included.
OPERATIVE_CONFIG = "operative_config.gin"
# The page of the run, to open in a browser.
REPORT = "report.html"
# The drawings of the page, one file each.
PLOTS = "plots"
# What a person said of pairs of the run, a line each; `humpback curate label` adds to it.
LABELS = "labels.jsonl"
# Pages that the run is to forget, a line each; `humpback forget` adds to it, and the corpus is cut without them.
FORGOTTEN = "forgotten.jsonl"
# What `humpback publish` has pushed to the hub, a folder per repository.
PUBLISHED = "published"

# Stages: a folder each, skipped once it is complete.

# The seed pairs and the held-out pairs, in one format.
SEEDS_STAGE = "seeds"
# Pages of the built-in corpus, where the recipe asks for it; no stage.
PAGES = "pages"
# Pages of the documentation of installed libraries, where the recipe asks for them; no stage.
LIBRARY_PAGES = "library_pages"
# The segments that were cut from web pages.
SEGMENTS_STAGE = "segments"
# The backward model M_yx: from an output to its instruction.
BACKWARD_STAGE = "m_yx"
# A: an instruction for every segment.
AUGMENTED_STAGE = "augmented"
# The forward model of round t; M_0 has seen seed pairs only.
MODEL_STAGE = "m{t}"
# The ratings that M_{t-1} gave every pair of A.
SCORES_STAGE = "scores{t}"
# The curator of round t: what it learned from, its weights, and how well it tells good pairs.
CURATOR_STAGE = "curator{t}"
# A(t): the best of A by these ratings, or by the curator.
CURATED_STAGE = "curated{t}"
# An arm beside the last round: as many pairs of A as its A(t), chosen otherwise (`random`, `longest`), or its A(t) with
# texts rewritten (`rewritten`).
ARM_PAIRS_STAGE = "curated{t}_{arm}"
# What was trained on the pairs of an arm.
ARM_MODEL_STAGE = "m{t}_{arm}"
# Preference learning after round t: several answers of M_t to every instruction.
SAMPLED_STAGE = "sampled{t}"
# The ratings of these answers.
SAMPLED_SCORES_STAGE = "sampled_scores{t}"
# The best of them against the worst.
PREFERENCES_STAGE = "preferences{t}"
# M_t after it has learned from these pairs.
PREFERRED_STAGE = "preferred{t}"
# Figures on held-out pairs; every NAME.json that another evaluation leaves here is shown in the report.
EVALUATION_STAGE = "evaluation"
# Answers of `humpback generate`, a folder per set of prompts.
ANSWERS_STAGE = "answers"
# Earlier versions of stages, `STAGE-NUMBER`: whole until the new one is, then only rows that may be wanted again.
REPLACED = "replaced"

# In every stage.

# Settings and hashes of the inputs, written first; where others are asked for, the stage is made again.
IDENTITY = "identity.json"
# Written last, and makes the stage complete: the identity, counts (in = out + rejected), hashes of the products,
# figures and seconds.
MANIFEST = "manifest.json"

# In a stage that is a job of many prompts.

# The shard files of the job.
SHARDS = "shards"
# The rows of one shard.
SHARD = "shard-{i:05d}-of-{n:05d}.jsonl"
# Beside a shard that is whole: its SHA-256. A shard without it, or with other bytes, is made again.
SHARD_COMPLETED = "shard-{i:05d}-of-{n:05d}.completed"

# Products.

# In `seeds`: the pairs that training begins with.
SEED_PAIRS = "seed.jsonl"
# In `seeds`: the pairs that no model is trained on.
HELDOUT_PAIRS = "heldout.jsonl"
# In `segments`: texts with their address and header, in the order of their ids.
SEGMENTS = "segments-{i:05d}-of-{n:05d}.{suffix}"
# In `segments`, beside each: line i is where the page of segment i stands: file, record, and bytes from start to end.
SOURCES = "sources-{i:05d}-of-{n:05d}.{suffix}"
# In `segments`: what was dropped as a duplicate, the segment that was kept, and their similarity.
DUPLICATES = "duplicates-{i:05d}-of-{n:05d}.{suffix}"
# In `segments`: what was read, cut and rejected, by reason.
CORPUS_REPORT = "corpus_report.json"
# In `segments`, written last: its files with their rows and hashes, the inputs and the settings.
CORPUS_MANIFEST = "corpus_manifest.json"
# In `segments` while it is made: the work that is done, to go on from.
CORPUS_WORK = "work"
# With `min_answer_likeness`: what tells answers from segments.
ANSWER_MODEL = "answer_model.npz"
# In `augmented`: the pairs of A; in `sampled{t}`: instructions, each with one of its answers.
PAIRS = "pairs.jsonl"
# In `augmented`, `sampled{t}` and `preferences{t}`: what gave nothing that can be used, with a reason each.
REJECTED = "rejected.jsonl"
# In `scores{t}`: a rating by the rubric for every pair, and what was written to find it.
SCORES = "scores.jsonl"
# In `scores{t}` and `curator{t}`: every reply of an endpoint that rates, as each process asked, to go on from.
REPLIES = "replies-{i:05d}.jsonl"
# In `scores{t}`, with `CurationConfig.diversity`: what the scorer made of every pair, a float16 vector each.
VECTORS = "vectors.npy"
# In `curator{t}`: seed pairs, their broken twins and labelled pairs, with their signals.
EXAMPLES = "examples.jsonl"
# In `curator{t}`: the weights.
CURATOR = "curator.json"
# In `curated{t}`: the pairs that were kept.
CURATED = "curated.jsonl"
# In `curated{t}`: the pairs that were dropped, with a reason each.
DROPPED = "dropped.jsonl"
# In `preferences{t}`: pairs of answers, the better first, with what ranked them.
PREFERENCES = "preferences.jsonl"
# In `preferred{t}`: log-probabilities of both answers of every pair under the reference, before the first update.
REFERENCE = "reference.jsonl"
# In `preferred{t}`: the pairs that were held out, with log-probabilities before and after, and rewards.
HELDOUT_PREFERENCES = "heldout_preferences.jsonl"
# In `curated{t}_rewritten`: both versions of every text, and why one stayed as it was.
REWRITINGS = "rewritings.jsonl"
# In `curated{t}_rewritten`: the job that wrote the rewritings.
WRITTEN = "written"
# In `curated{t}_rewritten`: the job that read texts and rewritings side by side.
READ_AGAIN = "read_again"
# In `evaluation`: what was measured of one model, kept for an evaluation of more models.
MEASURED = "measured"
# In `evaluation`: the instructions that backward models wrote for held-out answers.
PREDICTIONS = "backward_instructions.jsonl"
# In `answers`: instructions and their answers.
ANSWERS = "answers.jsonl"

# In a stage that trains a model.

# The model: a native model folder, for every verb that takes one.
MODEL = "model"
# With LoRA: the adapter alone, as PEFT reads it.
ADAPTER = "adapter"
# State of the training, a folder per number of updates.
CHECKPOINTS = "checkpoints"
# Every example with the updates that read it, counted from 1.
TRAINED_ON = "trained_on.jsonl"
# Loss, learning rate and speed of every update.
METRICS = "metrics.jsonl"
# The same for TensorBoard, where its writer is installed.
TENSORBOARD = "tensorboard"
# With `--profile_steps`: a trace of these updates.
PROFILE = "profile"

# What `humpback evaluate` writes.

# `generate`: answers in AlpacaEval's format.
MODEL_OUTPUTS = "model_outputs.json"
# `judge`: preferences in AlpacaEval's format.
ANNOTATIONS = "annotations.json"
# `judge` by an endpoint: every reply as it came, to go on from.
JUDGMENTS = "judgments.jsonl"
# `benchmarks`: accuracies and their errors.
FIGURES = "figures.json"
# `sweep`: the run directory of every cell, and beside it a file of the cell's rows.
CELLS = "cells"
# `sweep`: the rows of all cells.
TABLE = "table.jsonl"
# `sweep`, in a cell: a win rate of answers with these tags.
WIN_RATE = "win_rate_{tags}"
# `sweep`, beside these answers: what the judge said.
JUDGED = "judged"


def round_of(stage: str, template: str) -> int | None:
    """The t of a stage's name by its template: `round_of("curated2", CURATED_STAGE)` is 2; None: another stage."""
    number = stage.removeprefix(template.removesuffix("{t}"))
    return int(number) if number.isdigit() and template.format(t=int(number)) == stage else None


def arm_of(stage: str, template: str) -> tuple[int, str] | None:
    """(t, arm) of the stage of an arm: `arm_of("m2_random", ARM_MODEL_STAGE)` is (2, "random"); None: another stage."""
    number, _, arm = stage.removeprefix(template.removesuffix("{t}_{arm}")).partition("_")
    named = arm and number.isdigit() and template.format(t=int(number), arm=arm) == stage
    return (int(number), arm) if named else None


def default_run_dir(gin_files: list[str] | tuple[str, ...]) -> str:
    """RUN_DIR where --run_dir does not say it, after all gin files: `runs/quickstart`, `runs/quickstart-smoke`."""
    return "runs/" + "-".join(name.rpartition("/")[2].removesuffix(".gin") for name in gin_files)
