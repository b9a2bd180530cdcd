"""What every stage has in common: an identity, a manifest, and the rule that a complete stage is never run again.

STAGE_DIR/identity.json   settings and inputs, written first; another identity in the same folder is refused
STAGE_DIR/manifest.json   written last: the identity, counts, outputs and seconds; its presence means complete
"""

import dataclasses
import gc
import json
import time
from collections.abc import Callable
from typing import Any

from etils import epath

import humpback_jax
from humpback_jax.files import PathLike, read_json, write_json
from humpback_jax.inference.shards import claim_directory
from humpback_jax.runtime.processes import POLL_SECONDS, is_leader, process_index, stall_seconds, wait_until_complete
from humpback_jax.runtime.progress import say

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class StageResult:
    """What the body of a stage reports.

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


def run_stage(
    directory: PathLike,
    settings: dict[str, Any],
    inputs: dict[str, str],
    body: Callable[[epath.Path], StageResult | None],
    *,
    shared: bool = False,
    poll_seconds: float = POLL_SECONDS,
) -> Stage:
    """Runs `body` unless the stage is complete.

    Of several processes only the leader writes products and the manifest; the others wait for it.

    Args:
      directory: the stage's folder; its name is the stage's name.
      settings: everything that decides the result besides the inputs.
      inputs: name to content hash of everything the stage reads.
      body: does the work in the folder, resuming what it finds there. What it returns counts in the leader only.
      shared: every process runs `body` for its part of the work, and only the leader's writes products; otherwise only
        the leader runs it.
      poll_seconds: between two looks for the manifest in the other processes.

    Raises:
      ValueError: the folder was begun with other settings or inputs; the differing ones are named.
      TimeoutError: the leader does not come on.
    """
    folder = epath.Path(directory)
    identity = _flatten({"settings": plain(settings), "inputs": inputs})
    claim_directory(folder, identity, process_index())
    manifest_path = folder / MANIFEST
    if manifest_path.exists():
        if is_leader():
            say(f"[green]✓[/green] {folder.name}: complete")
        return Stage(folder, read_json(manifest_path))
    started = time.monotonic()
    result = body(folder) if shared or is_leader() else None
    gc.collect()  # weights that only a reference cycle keeps alive would add to the next stage's peak
    if not is_leader():
        _wait_for_manifest(folder, poll_seconds)
        return Stage(folder, read_json(manifest_path))
    if result is None:
        raise AssertionError(f"{folder.name}: the body gave no result in the leading process")
    _check_counts(folder.name, result.counts)
    manifest = {
        "stage": folder.name,
        "settings": plain(settings),
        "inputs": inputs,
        "counts": result.counts,
        "outputs": result.outputs,
        "figures": plain(result.figures),
        "seconds": round(time.monotonic() - started, 2),
        "version": humpback_jax.__version__,
    }
    write_json(manifest_path, manifest)
    _say_complete(folder.name, result.counts, manifest["seconds"])
    return Stage(folder, manifest)


def _check_counts(name: str, counts: dict[str, Any]) -> None:
    if counts["in"] != counts["out"] + sum(counts["rejected"].values()):
        raise AssertionError(f"{name}: {counts} does not add up; a record was lost or counted twice")


def _say_complete(name: str, counts: dict[str, Any], seconds: float) -> None:
    rejected = ", ".join(f"{n} {reason}" for reason, n in counts["rejected"].items()) or "none"
    say(f"[green]✓[/green] {name}: {counts['in']} in, {counts['out']} out, rejected: {rejected} ({seconds:.0f} s)")


def _wait_for_manifest(folder: epath.Path, poll_seconds: float) -> None:
    """Waits for the leader; while files of the stage come and grow, it is at work."""
    manifest = folder / MANIFEST
    wait_until_complete(
        lambda: [] if manifest.exists() else [str(manifest)],
        lambda: [(str(path), _length(path)) for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern))],
        poll_seconds=poll_seconds,
        stall_seconds=stall_seconds(),
    )


def _length(path: epath.Path) -> int:
    try:
        return path.stat().length
    except OSError:  # renamed or deleted since it was listed
        return -1


def finished_stage(directory: PathLike, how_to_make: str) -> Stage:
    """The stage in `directory`; FileNotFoundError says how to make it when it is not complete."""
    manifest = epath.Path(directory) / MANIFEST
    if not manifest.exists():
        raise FileNotFoundError(f"{directory} is not complete; run `{how_to_make}` first")
    return Stage(epath.Path(directory), read_json(manifest))


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one level of dotted keys, so that a difference can be named."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {key: value for name in tree for key, value in _flatten(tree[name], f"{prefix}.{name}".lstrip(".")).items()}
