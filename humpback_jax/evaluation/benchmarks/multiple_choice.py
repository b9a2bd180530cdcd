"""Multiple-choice benchmarks by likelihood: ARC, PIQA, SIQA, OpenBookQA and MMLU from local files.

A file is JSON lines: `{"id", "question", "choices", "answer"}`, `answer` an index, and for MMLU `subject`. Contexts are
worded as in lm-evaluation-harness 0.4 (tasks arc_easy, arc_challenge, piqa, social_iqa, openbookqa, mmlu), so that
numbers can be put beside its own. The paper's protocol (section 4.1, LLaMA's) is zero-shot.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from scipy import stats

from humpback_jax.evaluation.benchmarks.continuations import ContinuationScorer
from humpback_jax.files import PathLike, read_jsonl
from humpback_jax.runtime.progress import progress_bar

LETTERS = "ABCDEFGHIJ"


@dataclasses.dataclass(frozen=True)
class Task:
    """A benchmark: its file, and what comes before a choice.

    Where it is `lettered`, choices are listed in the context, and their letters are scored. `shots_file` holds solved
    examples by subject.
    """

    file: str
    context: str
    lettered: bool = False
    shots_file: str | None = None


TASKS: Mapping[str, Task] = {
    "arc_easy": Task("arc_easy.jsonl", "Question: {question}\nAnswer:"),
    "arc_challenge": Task("arc_challenge.jsonl", "Question: {question}\nAnswer:"),
    "piqa": Task("piqa.jsonl", "Question: {question}\nAnswer:"),
    "social_iqa": Task("social_iqa.jsonl", "Q: {question}\nA:"),
    "openbookqa": Task("openbookqa.jsonl", "{question}"),
    "mmlu": Task("mmlu_test.jsonl", "{question}\nAnswer:", lettered=True, shots_file="mmlu_dev.jsonl"),
}


@dataclasses.dataclass(frozen=True)
class Item:
    """A question as it is scored: continuations of one context, and the index of the right one.

    `lengths` are characters of the choices, by which `acc_norm` divides.
    """

    id: str
    context: str
    continuations: tuple[str, ...]
    answer: int
    lengths: tuple[int, ...]
    subject: str | None = None


def tasks_in(folder: PathLike) -> list[str]:
    """The benchmarks whose files a folder holds; ValueError where it holds none."""
    names = [name for name, task in TASKS.items() if (epath.Path(folder) / task.file).exists()]
    if not names:
        raise ValueError(f"--data {folder} holds no benchmark file; expected {', '.join(TASKS)} as NAME.jsonl")
    return names


def read_task(name: str, folder: PathLike, shots: int = 0, limit: int | None = None) -> list[Item]:
    """The first `limit` items of a benchmark, each after `shots` solved examples of its subject.

    Raises:
      ValueError: an unknown name, a record that is not a question, or shots where there are no solved examples.
      FileNotFoundError: the file is missing.
    """
    if name not in TASKS:
        raise ValueError(f"unknown benchmark {name!r}; choose from {', '.join(TASKS)}")
    task = TASKS[name]
    if shots and task.shots_file is None:
        raise ValueError(f"benchmark {name} has no file of solved examples; use --shots 0 with it")
    solved = list(_records(folder, task.shots_file)) if shots and task.shots_file else []
    records = list(_records(folder, task.file))
    if not records:
        raise ValueError(f"{epath.Path(folder) / task.file} holds no question")
    return [_item(task, record, solved, shots) for record in records[:limit]]


def read_questions(name: str, folder: PathLike, limit: int | None = None) -> dict[str, str]:
    """The bare questions of a benchmark by id."""
    return {str(r["id"]): r["question"] for r in itertools.islice(_records(folder, TASKS[name].file), limit)}


def _records(folder: PathLike, file: str) -> Iterator[dict[str, Any]]:
    path = epath.Path(folder) / file
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; give the folder of the benchmark files with --data")
    for number, row in read_jsonl(path):
        choices, answer = row.get("choices"), row.get("answer")
        if not isinstance(row.get("question"), str) or not isinstance(choices, list) or not isinstance(answer, int):
            raise ValueError(f"{path}:{number}: expected a question, a list of choices, and answer as an index")
        if not 0 <= answer < len(choices) or len(choices) < 2:
            raise ValueError(f"{path}:{number}: answer {answer} is no index of {len(choices)} choices, two or more")
        yield {"id": f"{path.stem}-{number}", **row}


def _item(task: Task, record: Mapping[str, Any], solved: Sequence[Mapping[str, Any]], shots: int) -> Item:
    subject = record.get("subject")
    examples = [r for r in solved if r.get("subject") == subject][:shots]
    if len(examples) < shots:
        raise ValueError(f"item {record['id']}: {len(examples)} solved examples of its subject, {shots} are wanted")
    heading = ""
    if task.lettered and subject is not None:
        topic = subject.replace("_", " ")
        heading = f"The following are multiple choice questions (with answers) about {topic}.\n\n"
    blocks = [f"{_context(task, r)} {_choices(task, r)[r['answer']]}" for r in examples] + [_context(task, record)]
    choices = _choices(task, record)
    return Item(
        id=str(record["id"]),
        context=heading + "\n\n".join(blocks),
        continuations=tuple(f" {choice}" for choice in choices),
        answer=record["answer"],
        lengths=tuple(max(len(choice), 1) for choice in choices),
        subject=subject,
    )


def _choices(task: Task, record: Mapping[str, Any]) -> list[str]:
    """What may stand after the context: letters, or the choices themselves."""
    return list(LETTERS[: len(record["choices"])]) if task.lettered else [str(choice) for choice in record["choices"]]


def _context(task: Task, record: Mapping[str, Any]) -> str:
    question = record["question"]
    if task.lettered:
        listed = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, record["choices"], strict=False)]
        question = "\n".join([question.strip(), *listed])
    return task.context.replace("{question}", question)


def score_items(
    scorer: ContinuationScorer, items: Sequence[Item], progress: Callable[[int], None] | None = None
) -> list[dict[str, Any]]:
    """What a model says to every item, as a row of a benchmark's results.

    Returns:
      id, answer, subject: of the item.
      log_likelihoods: in nats, one per choice.
      correct, correct_norm: right or wrong by sum and by length.
    """
    requests = [scorer.encode(item.context, text) for item in items for text in item.continuations]
    sums, _ = scorer.score(requests, progress)
    ends = np.cumsum([len(item.continuations) for item in items])
    return [_result(item, values) for item, values in zip(items, np.split(sums, ends[:-1]), strict=True)]


def _result(item: Item, values: np.ndarray) -> dict[str, Any]:
    correct, correct_norm = (int(np.argmax(v)) == item.answer for v in (values, values / np.asarray(item.lengths)))
    result = {"id": item.id, "log_likelihoods": values.tolist(), "answer": item.answer}
    return result | {"correct": correct, "correct_norm": correct_norm, "subject": item.subject}


def accuracy_figures(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Accuracies and their standard errors in percent; over subjects, where there are any, also the plain mean."""
    figures: dict[str, Any] = {"items": len(results)}
    for name, field in (("acc", "correct"), ("acc_norm", "correct_norm")):
        values = 100 * np.asarray([result[field] for result in results], np.float64)
        figures[name] = float(values.mean())
        figures[f"{name}_stderr"] = float(stats.sem(values)) if len(values) > 1 else None
    subjects = sorted({result["subject"] for result in results if result["subject"]})
    if subjects:
        means = [np.mean([r["correct"] for r in results if r["subject"] == subject]) for subject in subjects]
        figures |= {"subjects": len(subjects), "acc_mean_of_subjects": float(np.mean(means) * 100)}
    return figures


def run_benchmarks(
    scorer: ContinuationScorer, names: Sequence[str], folder: PathLike, shots: int = 0, limit: int | None = None
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """(figures, item results) by benchmark; figures include seconds and choices scored per second."""
    shots_of = {name: shots if name in TASKS and TASKS[name].shots_file else 0 for name in names}
    tasks = {name: read_task(name, folder, shots_of[name], limit) for name in names}
    figures, results = {}, {}
    for name, items in tasks.items():
        choices = sum(len(item.continuations) for item in items)
        started = time.monotonic()
        with progress_bar(name, choices, "choices") as bar:
            results[name] = score_items(scorer, items, bar.advance)
        seconds = time.monotonic() - started
        speed = {"seconds": round(seconds, 2), "choices_per_second": round(choices / seconds, 2)}
        figures[name] = accuracy_figures(results[name]) | {"shots": shots_of[name]} | speed
    return figures, results
