"""The engine of many machines: the same steps as pipelines of Apache Beam, for Dataflow, Flink, Spark or in-process.

Steps are put together, and run when a data set of theirs is settled; settled data sets are files of JSON lines in a
folder that all workers see. A group is sorted in the memory of one worker: the steps keep what is long out of groups
that may be large.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import TaggedOutput
from etils import epath

from humpback_jax.corpus.pipeline.engine import (
    AnyRow,
    GroupFunction,
    MapFunction,
    NumberedRows,
    Outputs,
    Unwatched,
    number_text,
)

# Beam's own local runner fetches a binary from the network; this one is part of the package.
IN_PROCESS = {"DirectRunner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner"}

_SUFFIX = ".jsonl"
_KeyedRow = tuple[str, tuple[str, str]]


@dataclasses.dataclass(eq=False)
class _Step:
    """A step that is yet to run: of shards if it has any, else a group-by of data sets."""

    name: str
    function: Any
    outputs: tuple[str, ...]
    shards: Sequence[Any] = ()
    datasets: "Sequence[BeamDataset]" = ()
    least: int = 1


@dataclasses.dataclass(eq=False)
class BeamDataset:
    """One output of a step; settled once it has a prefix of files and its rows are counted."""

    step: _Step
    output: str
    prefix: str | None = None
    rows: int = 0


class BeamEngine:
    """See the module.

    Args:
      folder: of settled data sets: local, `gs://` or `s3://`; on more than one machine all must see it.
      runner: a name that Beam knows, or the dotted name of a runner's class.
      options: of the runner, as on its command line.
    """

    def __init__(self, folder: str, runner: str, options: Sequence[str] = ()) -> None:
        self._folder, self._runner = epath.Path(folder), IN_PROCESS.get(runner, runner)
        self._options = list(options)
        self._runs = 0

    def map_shards(self, step: str, shards: Sequence[Any], function: MapFunction, outputs: Sequence[str]) -> Outputs:
        """As of `Engine`."""
        return _outputs(_Step(step, function, tuple(outputs), shards=shards))

    def group_by_key(
        self,
        step: str,
        datasets: Sequence[BeamDataset],
        function: GroupFunction,
        outputs: Sequence[str],
        least: int = 1,
    ) -> Outputs:
        """As of `Engine`."""
        return _outputs(_Step(step, function, tuple(outputs), datasets=datasets, least=least))

    def settle(self, *datasets: BeamDataset) -> None:
        """As of `Engine`."""
        wanted = [dataset for dataset in datasets if dataset.prefix is None]
        if not wanted:
            return
        self._runs += 1
        prefixes = [str(self._folder / f"{self._runs:02d}-{d.step.name}-{d.output}-") for d in wanted]
        with self._pipeline() as pipeline:
            made: dict[_Step | str, Any] = {}
            for dataset, prefix in zip(wanted, prefixes, strict=True):
                rows = _collection(pipeline, dataset, made)
                _write(rows | f"{prefix} lines" >> apache_beam.Map(json.dumps), prefix + "rows")
                count = rows | f"{prefix} count" >> apache_beam.combiners.Count.Globally()
                _write(count | f"{prefix} number" >> apache_beam.Map(str), prefix + "count")
        for dataset, prefix in zip(wanted, prefixes, strict=True):
            dataset.prefix = prefix + "rows"
            dataset.rows = sum(int(line) for line in _lines(prefix + "count"))

    def num_rows(self, dataset: BeamDataset) -> int:
        """As of `Engine`."""
        return dataset.rows

    def sum_by_key(self, dataset: BeamDataset, most_common: int | None = None) -> dict[str, int]:
        """As of `Engine`."""
        self._runs += 1
        prefix = str(self._folder / f"{self._runs:02d}-sums-of-{dataset.output}-")
        with self._pipeline() as pipeline:
            numbers = _collection(pipeline, dataset, {}) | apache_beam.Map(_number)
            counts = numbers | apache_beam.CombinePerKey(sum)
            if most_common is not None:
                top = apache_beam.combiners.Top.Smallest(most_common, key=_common_first)
                counts = counts | top | apache_beam.FlatMap(list)
            _write(counts | apache_beam.Map(json.dumps), prefix)
        return dict(sorted((json.loads(line) for line in _lines(prefix)), key=_common_first))

    def payloads(self, dataset: BeamDataset) -> Iterator[str]:
        """As of `Engine`."""
        assert dataset.prefix is not None, f"{dataset.output} is not settled"
        for line in _lines(dataset.prefix):
            yield json.loads(line)[1][1]

    def _pipeline(self) -> apache_beam.Pipeline:
        return apache_beam.Pipeline(runner=self._runner, options=PipelineOptions(self._options))


def _outputs(step: _Step) -> Outputs:
    return {output: BeamDataset(step, output) for output in step.outputs}


def _collection(pipeline: apache_beam.Pipeline, dataset: BeamDataset, made: dict[_Step | str, Any]) -> Any:
    """The rows of a data set in this pipeline: read if it is settled, else made by its step, once."""
    step = dataset.step
    if dataset.prefix is not None:
        label = f"{step.name} {dataset.output}"
        if label not in made:
            lines = pipeline | f"read {label}" >> apache_beam.io.ReadFromText(f"{dataset.prefix}*{_SUFFIX}")
            made[label] = lines | f"parse {label}" >> apache_beam.Map(_parse).with_output_types(_KeyedRow)
        return made[label]
    if step not in made:
        if step.shards:
            shards = pipeline | f"{step.name} shards" >> apache_beam.Create(list(step.shards))
            work = shards | f"{step.name} spread" >> apache_beam.Reshuffle()
            function = functools.partial(_map, function=step.function)
        else:
            inputs = [_collection(pipeline, each, made) for each in step.datasets]
            rows = inputs | f"{step.name} all" >> apache_beam.Flatten()
            work = rows | f"{step.name} group" >> apache_beam.GroupByKey()
            function = functools.partial(_group, function=step.function, least=step.least)
        make = apache_beam.FlatMap(function).with_output_types(_KeyedRow)
        made[step] = work | step.name >> make.with_outputs(*step.outputs)
    return made[step][dataset.output]


def _map(shard: Any, function: MapFunction) -> Iterator[Any]:
    return itertools.chain.from_iterable(map(_tagged, function(shard, Unwatched())))


def _group(group: tuple[str, Iterable[tuple[str, str]]], function: GroupFunction, least: int) -> Iterator[Any]:
    key, rows = group
    in_order = sorted(rows)
    if len(in_order) >= least:
        yield from itertools.chain.from_iterable(map(_tagged, function(key, iter(in_order))))


def _tagged(row: AnyRow) -> Iterator[Any]:
    if isinstance(row, NumberedRows):
        keys = map(number_text, row.keys.tolist())
        return (TaggedOutput(row.dataset, (key, (row.order, ""))) for key in keys)
    return iter([TaggedOutput(row.dataset, (row.key, (row.order, row.payload)))])


def _number(row: _KeyedRow) -> tuple[str, int]:
    key, (_, payload) = row
    return key, int(payload)


def _parse(line: str) -> _KeyedRow:
    key, (order, payload) = json.loads(line)
    return key, (order, payload)


def _write(lines: Any, prefix: str) -> None:
    lines | f"write {prefix}" >> apache_beam.io.WriteToText(prefix, file_name_suffix=_SUFFIX)


def _lines(prefix: str) -> Iterator[str]:
    path = epath.Path(prefix)
    for file in sorted(path.parent.glob(f"{path.name}*{_SUFFIX}")):
        with file.open("r") as stream:
            yield from stream


def _common_first(counted: tuple[str, int]) -> tuple[int, str]:
    return -counted[1], counted[0]
