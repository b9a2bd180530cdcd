"""What a model of a run has learned from, and under which licences: for its page."""

import fnmatch
import pathlib
from collections.abc import Sequence

from humpback_jax.files import PathLike
from humpback_jax.stages.sources import SeedConfig, SegmentsConfig, SourceConfig
from humpback_jax.weights.fetch import PACKAGED, hub_name_of
from humpback_jax.weights.gguf import open_gguf
from humpback_jax.weights.model_folder import is_model_folder, read_model_card
from humpback_jax.weights.origins import UNKNOWN, Origins

BASE, SEEDS, PAGES, OTHER_PAGES = "base model", "seed pairs", "pages of {pattern}", "other pages"


def origins_of(
    model: PathLike,
    seeds: SeedConfig | None = None,
    segments: SegmentsConfig | None = None,
    sources: Sequence[SourceConfig] = (),
    base_licence: str | None = None,
    licence: str | None = None,
) -> Origins:
    """What the page of a model may say of where its knowledge came from.

    Args:
      model: a native model folder, or foreign weights.
      seeds, segments: of the recipe of its run; None where that is not known.
      sources: more sources, which come before those of the recipe.
      base_licence: of the weights that it began with; None: what their own page or file says.
      licence: of the model itself.
    """
    card = read_model_card(model) if is_model_folder(model) else None
    training = card.training if card else {}
    base = str(training.get("base") or (card.source if card else model))
    licences = {BASE: base_licence or weights_licence(base) or UNKNOWN}
    if not training:
        return Origins((), licences if licences[BASE] != UNKNOWN else {}, licence)
    tags, private = training.get("tags", {}), False
    if "seed" in tags and seeds is not None:
        private |= seeds.private
        licences[SEEDS] = seeds.licence or UNKNOWN
    pages: list[str] = []
    if "web" in tags and segments is not None:
        known = (*sources, *segments.sources)
        hidden = [source.pattern for source in known if source.private]
        private |= bool(hidden)
        pages = sorted({pathlib.PurePath(name).name for name in segments.inputs if not _matches(name, hidden)})
        said = {source.pattern: source.licence for source in reversed(known) if source.licence and not source.private}
        licences |= {PAGES.format(pattern=_short(pattern)): text for pattern, text in reversed(said.items())}
        if not all(_matches(name, [*said, *hidden]) for name in segments.inputs):
            licences[OTHER_PAGES] = UNKNOWN
    return Origins(tuple(pages), licences, licence, private)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether an input is meant by a pattern: as it is written, or by its file name."""
    names = {name.lower(), pathlib.PurePath(name).name.lower()}
    return any(fnmatch.fnmatchcase(each, pattern.lower()) for pattern in patterns for each in names) or name in patterns


def _short(pattern: str) -> str:
    """A path without the folders of this machine above it; hosts and patterns as they are."""
    return pathlib.PurePath(pattern).name if pattern.startswith(("/", "~", ".")) else pattern


def weights_licence(source: str) -> str | None:
    """What those who made weights say of their licence; None where that cannot be found out here.

    Args:
      source: where they came from, as a model's card has it: a Hugging Face folder, whose README says it in its YAML, a
        GGUF file, whose metadata do, or a download.
    """
    for packaged in PACKAGED.values():
        if source == packaged.requirement:
            return packaged.licence
    if name := hub_name_of(source):
        import huggingface_hub

        page = huggingface_hub.try_to_load_from_cache(name, "README.md")
        return _licence_in(pathlib.Path(page)) if isinstance(page, str) else None
    path = pathlib.Path(source).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        field = open_gguf(path).fields.get("general.license")
        return str(field.contents()) if field is not None else None
    return _licence_in(path / "README.md")


def _licence_in(page: pathlib.Path) -> str | None:
    """`license` of the YAML that a README begins with; a page that cannot be read says nothing."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        fields = metadata_load(page) if page.is_file() else None
    except (ValueError, OSError, yaml.YAMLError):
        return None
    licence = (fields or {}).get("license")
    if licence == "other":
        licence = (fields or {}).get("license_name") or licence
    return (", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)) if licence else None
