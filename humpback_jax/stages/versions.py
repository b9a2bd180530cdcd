"""Versions of a stage: the one that is asked for stands in its folder, earlier ones beside it until they are spared.

    RUN_DIR/m1                      the version that was asked for last
    RUN_DIR/replaced/m1-3           an earlier one; the number grows

A version is moved, never copied or changed, so a process that dies leaves one that is whole or can go on; whoever asks
for an earlier one again gets it back as it was.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from humpback_jax.files import read_json
from humpback_jax.run_files import FORGOTTEN, IDENTITY, REPLACED, SHARDS

# Every text of the prompts was once named by stages that read one of them, or none.
_NAMED_UNREAD = "settings.prompts."


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one level of dotted keys, so that a difference can be named."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {key: value for name in tree for key, value in flatten(tree[name], f"{prefix}.{name}".lstrip(".")).items()}


def identity_of(folder: epath.Path) -> dict[str, Any] | None:
    """What a folder was begun with; None where nothing was begun."""
    return read_json(folder / IDENTITY) if (folder / IDENTITY).exists() else None


def differences(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """{key: (begun with, wanted)} of all that differs; None where one of them has no such key."""
    unread = {key for key in begun.keys() - wanted.keys() if key.startswith(_NAMED_UNREAD)}
    keys = sorted((begun.keys() | wanted.keys()) - unread)
    return {key: (begun.get(key), wanted.get(key)) for key in keys if begun.get(key) != wanted.get(key)}


def earlier_versions(folder: epath.Path) -> list[epath.Path]:
    """Folders of the earlier versions of a stage, the oldest first."""
    found = (path for path in (folder.parent / REPLACED).glob(f"{folder.name}-*") if _number(path, folder.name))
    return sorted(found, key=lambda path: _number(path, folder.name))


def _number(path: epath.Path, stage: str) -> int:
    """Of a version of the stage, from 1; 0 of anything else."""
    name, _, number = path.name.rpartition("-")
    return int(number) if name == stage and number.isdigit() else 0


def set_aside(folder: epath.Path, wanted: Mapping[str, Any]) -> None:
    """Makes room for the version `wanted`: another one in its place is moved, and a whole one like it moved back."""
    begun = identity_of(folder)
    if begun is not None and not differences(begun, wanted):
        return
    if begun is not None:
        number = max((_number(path, folder.name) for path in earlier_versions(folder)), default=0) + 1
        place = folder.parent / REPLACED / f"{folder.name}-{number}"
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(place)
    matching = next(matching_versions(folder, wanted), None)
    if matching is not None and not folder.exists():
        matching.rename(folder)


def matching_versions(folder: epath.Path, wanted: Mapping[str, Any]) -> Iterator[epath.Path]:
    """Earlier versions that are what is wanted."""
    for version in earlier_versions(folder):
        begun = identity_of(version)
        if begun is not None and not differences(begun, wanted):
            yield version


def prune(folder: epath.Path) -> None:
    """Removes the earlier versions of a whole stage, but the last one with rows that may be wanted again.

    In a run that has pages to forget there are no such rows.
    """
    versions = earlier_versions(folder)
    forgets = (folder.parent / FORGOTTEN).exists()
    last = [] if forgets else [path for path in versions if (path / SHARDS).exists()][-1:]
    for version in versions:
        if version not in last:
            version.rmtree()
