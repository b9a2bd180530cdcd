"""The engine of one machine: every step is tasks for a pool of processes, every task leaves files and a marker.

A task that is complete is not done again, so a run that was killed loses the tasks that were under way. The number of
partitions depends on the inputs alone; how many workers there are changes no file.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from humpback_jax.corpus.pipeline.engine import GroupFunction, MapFunction, Monitor, Outputs
from humpback_jax.corpus.pipeline.pool import Pool, Task
from humpback_jax.corpus.pipeline.shuffle import (
    Dataset,
    DatasetWriter,
    completed,
    mark_complete,
    read_groups,
    read_payloads,
    sum_by_key,
)
from humpback_jax.runtime.progress import ProgressReporter, progress_bar

_SPILL = "spill"
_BYTES_PER_UNIT = 1000
_SHOWN_FROM_ROWS = 1_000_000  # the group-by of fewer is over before anybody looks


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where a task writes: its folder, its name, and into how many partitions."""

    folder: pathlib.Path
    task: str
    partitions: int


class LocalEngine:
    """See the module.

    Args:
      folder: of everything between the steps; belongs to one set of inputs and settings.
      pool: the workers.
      partitions: of every group-by.
      memory_bytes: what one task may use to sort.
    """

    def __init__(
        self, folder: pathlib.Path, pool: Pool, partitions: int, memory_bytes: int, show_progress: bool = True
    ) -> None:
        self._folder, self._pool, self._partitions = folder, pool, partitions
        self._memory_bytes, self._show_progress = memory_bytes, show_progress
        self._steps: list[str] = []

    def map_shards(self, step: str, shards: Sequence[Any], function: MapFunction, outputs: Sequence[str]) -> Outputs:
        """As of `Engine`."""
        folder = self._step_folder(step)
        places = [_Place(folder, f"{i:06d}", self._partitions) for i in range(len(shards))]
        tasks = [Task(p.task, _map_task, (function, shard, p)) for shard, p in zip(shards, places, strict=True)]
        sizes = [getattr(shard, "size", 0) // _BYTES_PER_UNIT for shard in shards]
        with progress_bar(f"corpus: {step}", sum(sizes), "kB", show=self._show_progress) as bar:
            return self._run(folder, dict(zip(tasks, sizes, strict=True)), outputs, bar)

    def group_by_key(
        self, step: str, datasets: Sequence[Dataset], function: GroupFunction, outputs: Sequence[str], least: int = 1
    ) -> Outputs:
        """As of `Engine`."""
        folder = self._step_folder(step)
        inputs = tuple(dataset for dataset in datasets if dataset.rows)
        spill = str(folder / _SPILL)
        read = functools.partial(read_groups, inputs, memory_bytes=self._memory_bytes, spill=spill, least=least)
        parts = range(self._partitions) if inputs else ()
        places = [_Place(folder, f"{part:06d}", self._partitions) for part in parts]
        tasks = {Task(p.task, _group_task, (function, read, p)): 1 for p in places}
        show = self._show_progress and sum(dataset.rows for dataset in inputs) > _SHOWN_FROM_ROWS
        with progress_bar(f"corpus: {step}", len(tasks), "partitions", show=show) as bar:
            return self._run(folder, tasks, outputs, bar)

    def settle(self, *datasets: Dataset) -> None:
        """Nothing to do: every step has run."""

    def num_rows(self, dataset: Dataset) -> int:
        """As of `Engine`."""
        return dataset.rows

    def sum_by_key(self, dataset: Dataset, most_common: int | None = None) -> dict[str, int]:
        """As of `Engine`."""
        return sum_by_key(dataset, most_common)

    def payloads(self, dataset: Dataset) -> Iterator[str]:
        """As of `Engine`."""
        return read_payloads(dataset)

    def _step_folder(self, step: str) -> pathlib.Path:
        assert step not in self._steps, f"two steps are called {step}"
        self._steps.append(step)
        folder = self._folder / f"{len(self._steps):02d}-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _run(
        self, folder: pathlib.Path, tasks: dict[Task, int], outputs: Sequence[str], bar: ProgressReporter
    ) -> Outputs:
        """Does the tasks that are not complete; the bar advances by what is named beside each."""
        units = {task.name: unit for task, unit in tasks.items()}
        results = {task.name: found for task in tasks if (found := completed(folder, task.name)) is not None}
        bar.advance(sum(units[name] for name in results))
        for name, result in self._pool.run(task for task in tasks if task.name not in results):
            results[name] = result
            bar.advance(units[name])
        return {output: _union([results[name].get(output) for name in units]) for output in outputs}


def _union(datasets: Sequence[Dataset | None]) -> Dataset:
    found = [dataset for dataset in datasets if dataset is not None]
    return Dataset(tuple(file for d in found for file in d.files), sum(d.rows for d in found))


def _map_task(argument: tuple[MapFunction, Any, _Place], monitor: Monitor) -> dict[str, Dataset]:
    function, shard, place = argument
    writer = DatasetWriter(place.folder, place.task, place.partitions)
    for row in function(shard, monitor):
        writer.add(row)
    return _finish(writer, place)


def _group_task(argument: tuple[GroupFunction, Any, _Place], monitor: Monitor) -> dict[str, Dataset]:
    function, groups, place = argument
    writer = DatasetWriter(place.folder, place.task, place.partitions)
    for key, rows in groups(part=int(place.task)):
        for row in function(key, rows):
            writer.add(row)
    return _finish(writer, place)


def _finish(writer: DatasetWriter, place: _Place) -> dict[str, Dataset]:
    datasets = writer.close()
    mark_complete(place.folder, place.task, datasets)
    return datasets
