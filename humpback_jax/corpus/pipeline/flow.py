"""The order of the steps, for any engine: shards of pages in; files of segments, sources and duplicates out."""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from humpback_jax.corpus.config import CorpusConfig
from humpback_jax.corpus.page_segments import ToolsRecipe
from humpback_jax.corpus.pipeline import cutting, duplicates, likeness, output, repeated, sampling
from humpback_jax.corpus.pipeline.cutting import Counts, PageFunction, Shard
from humpback_jax.corpus.pipeline.engine import Engine
from humpback_jax.corpus.pipeline.output import Destination
from humpback_jax.corpus.pipeline.rows import BY_ID, BY_TEXT
from humpback_jax.run_files import ANSWER_MODEL, SEGMENTS, SOURCES
from humpback_jax.run_files import DUPLICATES as DUPLICATES_FILE

MOST_COMMON = 50


@dataclasses.dataclass(frozen=True)
class FlowResult:
    """What was written.

    Attributes:
      counts: of records, pages, and candidates up to the last step that looks at one page alone.
      dropped: segments of pages that a later step dropped, by reason.
      segments: that were written.
      domains, languages: the most common of them.
      files: name to {"rows", "sha256"}.
    """

    counts: Counts
    dropped: dict[str, int]
    segments: int
    domains: dict[str, int]
    languages: dict[str, int]
    files: dict[str, dict[str, Any]]


def run_flow(
    engine: Engine,
    shards: Sequence[Shard],
    recipe: ToolsRecipe,
    cut: PageFunction,
    answers: Sequence[str],
    destination: Destination,
) -> FlowResult:
    """Runs all steps; what is written depends on the pages and the settings alone."""
    config = recipe.config
    found, counts = _cut(engine, shards, recipe, cut)
    by_reason = dict(found.dropped)
    if config.min_answer_likeness is not None:
        found = _like_answers(engine, found, config, config.min_answer_likeness, answers, destination)
        by_reason |= found.dropped
    not_kept, light, similar = _find_duplicates(engine, found, config)
    not_sampled = _sample(engine, light, config)
    by_reason |= similar | not_sampled
    dropped = {reason: engine.num_rows(ids) for reason, ids in by_reason.items()}
    verdicts = [*not_kept, *found.taken_back, *not_sampled.values()]
    total = counts.segments - sum(dropped.values())
    files = output.num_files(total, destination.rows_per_file)
    keep = functools.partial(output.keep, files=files)
    kept = engine.group_by_key("keep", [*found.by_id, *verdicts], keep, [output.KEPT])
    write = functools.partial(output.write_segments, files=files, destination=destination)
    written = engine.group_by_key(
        "write", [kept[output.KEPT]], write, [output.FILES, output.BY_DOMAIN, output.BY_LANGUAGE]
    )
    num_duplicates = sum(map(engine.num_rows, similar.values()))
    duplicate_files = output.num_files(num_duplicates, destination.rows_per_file)
    name_kept = functools.partial(duplicates.name_kept, files=duplicate_files)
    named = engine.group_by_key("name_kept", list(similar.values()), name_kept, [duplicates.DUPLICATES])
    write = functools.partial(output.write_duplicates, files=duplicate_files, destination=destination)
    also_written = engine.group_by_key("write_duplicates", [named[duplicates.DUPLICATES]], write, [output.FILES])
    engine.settle(*written.values(), *also_written.values())
    names = [json.loads(p) for d in (written, also_written) for p in engine.payloads(d[output.FILES])]
    expected = {SEGMENTS: files, SOURCES: files, DUPLICATES_FILE: duplicate_files}
    all_files = dict(names) | dict(_empty_files({name for name, _ in names}, expected, destination))
    return FlowResult(
        counts,
        dropped,
        sum(file["rows"] for name, file in names if name.startswith(SEGMENTS.partition("{")[0])),
        engine.sum_by_key(written[output.BY_DOMAIN], MOST_COMMON),
        engine.sum_by_key(written[output.BY_LANGUAGE], MOST_COMMON),
        dict(sorted(all_files.items())),
    )


@dataclasses.dataclass(frozen=True)
class _Found:
    """Data sets: segments by id and, in small, by text; which of them are taken back; what was dropped, by reason."""

    by_id: Sequence[Any]
    by_text: Sequence[Any]
    taken_back: Sequence[Any] = ()
    dropped: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _cut(engine: Engine, shards: Sequence[Shard], recipe: ToolsRecipe, cut: PageFunction) -> tuple[_Found, Counts]:
    """(segments, counts): pages are cut, and what a site repeats is cut off."""
    config, is_indexed = recipe.config, recipe.config.min_answer_likeness is None
    function = functools.partial(cutting.cut_shard, recipe=recipe, cut=cut, is_indexed=is_indexed)
    pages = engine.map_shards("cut", shards, function, [cutting.COUNTS, BY_ID, BY_TEXT, repeated.PARAGRAPHS])
    found = _Found([pages[BY_ID]], [pages[BY_TEXT]])
    if config.repeated_on_pages:
        least = config.repeated_on_pages
        mark = functools.partial(repeated.mark, pages=least)
        marks = engine.group_by_key("repeated", [pages[repeated.PARAGRAPHS]], mark, [repeated.MARKS], least)
        trim = functools.partial(repeated.trim, config=config, is_indexed=is_indexed)
        names = [BY_ID, BY_TEXT, repeated.TAKEN_BACK, repeated.ON_SITE]
        trimmed = engine.group_by_key("trim", [pages[BY_ID], marks[repeated.MARKS]], trim, names, least=2)
        found = _Found(
            [pages[BY_ID], trimmed[BY_ID]],
            [pages[BY_TEXT], trimmed[BY_TEXT]],
            [trimmed[repeated.TAKEN_BACK]],
            {repeated.ON_SITE: trimmed[repeated.ON_SITE]},
        )
    engine.settle(*found.by_id, *found.by_text, *found.taken_back, *found.dropped.values(), pages[cutting.COUNTS])
    counts = Counts()
    for payload in engine.payloads(pages[cutting.COUNTS]):
        counts.add(Counts.from_json(payload))
    return found, counts


def _like_answers(
    engine: Engine,
    found: _Found,
    config: CorpusConfig,
    least: float,
    answers: Sequence[str],
    destination: Destination,
) -> _Found:
    """The segments that read like answers."""
    alive = engine.group_by_key("alive", [*found.by_id, *found.taken_back], likeness.alive, [BY_ID])[BY_ID]
    engine.settle(alive)
    model = epath.Path(destination.folder) / ANSWER_MODEL
    likeness.train(engine.payloads(alive), engine.num_rows(alive), answers, config.seed).save(model)
    function = functools.partial(likeness.score, model=str(model), least=least, threshold=config.near_duplicates)
    scored = engine.group_by_key("likeness", [alive], function, [BY_ID, BY_TEXT, likeness.LOW])
    engine.settle(*scored.values())
    return _Found([scored[BY_ID]], [scored[BY_TEXT]], dropped={likeness.LOW: scored[likeness.LOW]})


def _find_duplicates(
    engine: Engine, found: _Found, config: CorpusConfig
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """(the ids that are not kept, the domains of ids where a sample is drawn, the dropped by reason)."""
    threshold = config.near_duplicates
    is_sampled = config.num_segments is not None or config.max_per_domain is not None
    function = functools.partial(duplicates.drop_copies, is_sampled=is_sampled)
    names = [duplicates.COPIES, duplicates.NOT_KEPT, duplicates.LIGHT, duplicates.BANDS]
    texts = engine.group_by_key("copies", found.by_text, function, names)
    bands, by_id = [texts[duplicates.BANDS]], found.by_id
    pairs = engine.group_by_key("bands", bands, duplicates.pair_up, [duplicates.PAIRS], least=2)
    sides = engine.group_by_key("texts", [*by_id, *pairs.values()], duplicates.send_texts, [duplicates.SIDES], least=2)
    compare = functools.partial(duplicates.compare, threshold=threshold or 1.0)
    edges = engine.group_by_key("compare", [*by_id, *sides.values()], compare, [duplicates.EDGES], least=2)
    near = engine.group_by_key("near", [*edges.values()], duplicates.drop_near, [duplicates.NEAR])[duplicates.NEAR]
    copies, not_kept, light = (texts[name] for name in names[:3])
    engine.settle(copies, not_kept, light, near)
    return [not_kept, near], [light, near], {"duplicate": copies, "near_duplicate": near}


def _sample(engine: Engine, light: Sequence[Any], config: CorpusConfig) -> dict[str, Any]:
    """The segments that are not drawn, by reason; none where all are wanted."""
    if config.num_segments is None and config.max_per_domain is None:
        return {}
    by_domain = functools.partial(sampling.by_domain, seed=config.seed)
    domains = engine.group_by_key("domains", light, by_domain, [sampling.DOMAINS])[sampling.DOMAINS]
    rank = functools.partial(sampling.rank, seed=config.seed, max_per_domain=config.max_per_domain)
    ranked = engine.group_by_key("rank", [domains], rank, [sampling.RANKED, sampling.OVER_CAP])
    engine.settle(*ranked.values())
    over_cap = {sampling.OVER_CAP: ranked[sampling.OVER_CAP]}
    if config.num_segments is None:
        return over_cap
    cut = sampling.cut_for(engine.sum_by_key(ranked[sampling.RANKED]), config.num_segments)
    beyond = functools.partial(sampling.drop_beyond, cut=cut)
    missed = engine.group_by_key("sample", [ranked[sampling.RANKED]], beyond, [sampling.NOT_SAMPLED])
    engine.settle(*missed.values())
    return over_cap | missed


def _empty_files(
    written: set[str], counts: dict[str, int], destination: Destination
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files of a set that no row fell into are written too, so that every set is complete."""
    for template, count in counts.items():
        for i in range(count):
            name = template.format(i=i, n=count, suffix=destination.file_format)
            if name not in written:
                with destination.open(template, i, count) as file:
                    pass
                yield name, file.summary
