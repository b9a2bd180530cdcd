"""What every stage has in common: an identity, a manifest, and the rule that a complete stage is never run again.

STAGE_DIR/identity.json   settings and inputs, written first; of a run's stage that is asked for with others the version
                          there is set aside, elsewhere they are refused
STAGE_DIR/manifest.json   written last: the identity, counts, outputs and seconds; its presence means complete
"""

import collections
import dataclasses
import gc
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

import humpback_jax
from humpback_jax.files import PathLike, atomic_writer, jsonl_line, read_json, write_json
from humpback_jax.inference.shards import claim_directory
from humpback_jax.run_files import IDENTITY, MANIFEST
from humpback_jax.runtime.console import say
from humpback_jax.runtime.processes import is_leader, process_index, wait_until_complete
from humpback_jax.stages.versions import (
    differences,
    earlier_versions,
    flatten,
    identity_of,
    matching_versions,
    prune,
    set_aside,
)

_LONGEST_SHOWN = 40  # characters of a value in a message
_MOST_SHOWN = 4  # differences of one stage


Identity = tuple[dict[str, Any], dict[str, str]]  # settings, and content hashes of the inputs


@dataclasses.dataclass(frozen=True)
class StageResult:
    """What a stage has made.

    Attributes:
      counts: `{"in": n, "out": m, "rejected": {reason: k}}` with n = m + Σ k.
      outputs: name of each product to its content hash.
      figures: numbers for the report.
    """

    counts: dict[str, Any]
    outputs: dict[str, str]
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A finished stage: its folder and what its manifest says."""

    directory: epath.Path
    manifest: dict[str, Any]

    @property
    def counts(self) -> dict[str, Any]:
        """`{"in", "out", "rejected"}`."""
        return self.manifest["counts"]

    @property
    def outputs(self) -> dict[str, str]:
        """Content hashes of the products: what a later stage names as its input."""
        return self.manifest["outputs"]


def plain(value: Any) -> Any:
    """Dataclasses, tuples and paths as the JSON values they are saved as."""
    return json.loads(json.dumps(value, default=_as_json))


def _as_json(value: Any) -> Any:
    """A dataclass at any depth as its fields, anything else that JSON does not know as text."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A stage's folder while this process works on it; see `begin_stage`.

    Attributes:
      folder: where the work goes; what a cut-off run left there is resumed.
      settings, inputs: the identity, as the manifest will name it.
      manifest: of a stage that is complete already.
      started: `time.monotonic()` at the claim.
      replaces: earlier versions of the stage were set aside, and go once this one is complete.
    """

    folder: epath.Path
    settings: dict[str, Any]
    inputs: dict[str, str]
    manifest: dict[str, Any] | None
    started: float
    replaces: bool = False

    @property
    def earlier(self) -> list[epath.Path]:
        """Folders of earlier versions of the stage, for what of them is wanted again."""
        return earlier_versions(self.folder) if self.replaces else []

    @property
    def finished(self) -> bool:
        """True where nothing is left to do: `stage` is complete."""
        return self.manifest is not None

    @property
    def stage(self) -> Stage:
        """The complete stage."""
        assert self.manifest is not None, f"{self.folder.name} is not finished"
        return Stage(self.folder, self.manifest)

    def finish(self, result: StageResult | None) -> Stage:
        """Writes the manifest, which makes the stage complete.

        A follower gives None and waits for the leader's; what else it gives is ignored.

        Raises:
          TimeoutError: the leader does not come on.
        """
        gc.collect()  # weights that only a reference cycle keeps alive would add to the next stage's peak
        if not is_leader():
            return _stage_of_leader(self.folder)
        if result is None:
            raise AssertionError(f"{self.folder.name}: no result in the leading process")
        _check_counts(self.folder.name, result.counts)
        manifest = {
            "stage": self.folder.name,
            "settings": self.settings,
            "inputs": self.inputs,
            "counts": result.counts,
            "outputs": result.outputs,
            "figures": plain(result.figures),
            "seconds": round(time.monotonic() - self.started, 2),
            "version": humpback_jax.__version__,
        }
        write_json(self.folder / MANIFEST, manifest)
        if self.replaces:
            prune(self.folder)
        _say_complete(self.folder.name, result.counts, manifest["seconds"])
        return Stage(self.folder, manifest)


def begin_stage(
    directory: PathLike,
    settings: dict[str, Any],
    inputs: dict[str, str],
    *,
    shared: bool = False,
    replaces: bool = False,
) -> Claim:
    """Claims the folder of a stage. A stage function reads: claim; return `claim.stage` if finished; work; finish.

    Of several processes only the leader writes products and the manifest. A follower does its part of a shared stage;
    of any other it waits here, and finds it finished.

    Args:
      directory: the stage's folder; its name is the stage's name.
      settings: everything that decides the result besides the inputs.
      inputs: name to content hash of everything the stage reads.
      shared: every process does its part of the work.
      replaces: a version with other settings or inputs is set aside, whole, until this one is complete; a version like
        this one that was set aside before comes back.

    Raises:
      ValueError: the folder was begun with other settings or inputs, and nothing is replaced; they are named.
      TimeoutError: the leader does not come on.
    """
    folder, settings = epath.Path(directory), plain(settings)
    identity = flatten({"settings": settings, "inputs": inputs})
    if replaces:
        _settle(folder, identity)
    claim_directory(folder, identity if not replaces else _as_begun(folder, identity), process_index())
    manifest = None
    if (folder / MANIFEST).exists():
        manifest = read_json(folder / MANIFEST)
        if is_leader():
            say(f"[green]✓[/green] {folder.name}: complete")
    elif not (shared or is_leader()):
        manifest = _stage_of_leader(folder).manifest
    return Claim(folder, settings, inputs, manifest, time.monotonic(), replaces)


def _settle(folder: epath.Path, identity: dict[str, Any]) -> None:
    """Sees to it that nothing, or a version with this identity, is in the folder: the leader, or a follower by waiting.

    A follower waits only for another version to go; where nothing is, whoever comes first begins.
    """
    if is_leader():
        begun = identity_of(folder)
        if begun is not None and (changed := differences(begun, identity)):
            back = " (as it once was)" if any(matching_versions(folder, identity)) else ""
            say(f"{folder.name}: made again{back}: {in_words(changed)}".replace("[", "\\["))
        set_aside(folder, identity)
        return
    wait_until_complete(lambda: [str(folder / IDENTITY)] if _is_another(folder, identity) else [])


def _is_another(folder: epath.Path, identity: dict[str, Any]) -> bool:
    try:
        begun = identity_of(folder)
    except OSError:  # moved away while it was read
        return True
    return begun is not None and bool(differences(begun, identity))


def _as_begun(folder: epath.Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The identity as the folder has it, where that says the same in other words."""
    return identity_of(folder) or identity


def in_words(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """What differs, for people: hashes and long texts are not shown, nor more than a few of many."""
    parts = [f"{key} {_shown(old, new)}".strip() for key, (old, new) in changed.items()]
    more = len(parts) - _MOST_SHOWN
    return "; ".join(parts if more <= 1 else [*parts[:_MOST_SHOWN], f"and {more} more"])


def _shown(old: Any, new: Any) -> str:
    if max(len(str(old)), len(str(new))) > _LONGEST_SHOWN:
        return "has changed" if None not in (old, new) else "is new" if old is None else "is gone"
    return f"{old} → {new}"


def _check_counts(name: str, counts: dict[str, Any]) -> None:
    if counts["in"] != counts["out"] + sum(counts["rejected"].values()):
        raise AssertionError(f"{name}: {counts} does not add up; a record was lost or counted twice")


def _say_complete(name: str, counts: dict[str, Any], seconds: float) -> None:
    rejected = ", ".join(f"{n} {reason}" for reason, n in counts["rejected"].items()) or "none"
    say(f"[green]✓[/green] {name}: {counts['in']} in, {counts['out']} out, rejected: {rejected} ({seconds:.0f} s)")


def _stage_of_leader(folder: epath.Path) -> Stage:
    """Waits until the leader has finished; while files of the stage come and grow, it is at work."""
    manifest = folder / MANIFEST
    wait_until_complete(
        lambda: [] if manifest.exists() else [str(manifest)],
        lambda: [(str(path), _length(path)) for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern))],
    )
    return Stage(folder, read_json(manifest))


def _length(path: epath.Path) -> int:
    try:
        return path.stat().length
    except OSError:  # renamed or deleted since it was listed
        return -1


def write_by_reason(kept: PathLike, rejected: PathLike, rows: Iterable[tuple[str | None, dict]]) -> dict[str, Any]:
    """Writes rows as they come: those without a reason to one file, the others to another, where it comes first.

    Returns:
      The counts of a stage.
    """
    reasons: collections.Counter[str | None] = collections.Counter()
    with atomic_writer(kept) as kept_rows, atomic_writer(rejected) as rejected_rows:
        for reason, row in rows:
            reasons[reason] += 1
            stream, line = (kept_rows, row) if reason is None else (rejected_rows, {"reason": reason} | row)
            stream.write(jsonl_line(line).encode())
    counts = {"in": reasons.total(), "out": reasons.pop(None, 0)}
    return counts | {"rejected": {reason: reasons[reason] for reason in sorted(filter(None, reasons))}}


def finished_stage(directory: PathLike, how_to_make: str) -> Stage:
    """The stage in `directory`; FileNotFoundError says how to make it when it is not complete."""
    manifest = epath.Path(directory) / MANIFEST
    if not manifest.exists():
        raise FileNotFoundError(f"{directory} is not complete; run `{how_to_make}` first")
    return Stage(epath.Path(directory), read_json(manifest))
