"""Does a model and its batch divide over a mesh? Asked before anything is loaded or compiled."""

from jax.sharding import AbstractMesh, Mesh

from humpback_jax.models.config import LlamaConfig
from humpback_jax.partitioning import LogicalAxisRules, axes_size

# Which setting gives the logical axes their length.
MODEL_SETTINGS = {
    "vocab_size": ("vocab", "activation_vocab"),
    "emb_dim": ("embed", "norm", "activation_embed"),
    "num_heads": ("heads", "activation_heads"),
    "num_kv_heads": ("kv_heads", "activation_kv_heads"),
    "mlp_dim": ("mlp", "activation_mlp"),
}


def check_layout(
    config: LlamaConfig, mesh: Mesh | AbstractMesh, rules: LogicalAxisRules, rows_per_microbatch: int, row_length: int
) -> None:
    """Checks that every axis of parameters, activations and batches falls into equal shards.

    A compiler does not always refuse what does not divide: it may hold a whole copy on every device instead.

    Args:
      config: the architecture.
      mesh: the mesh.
      rules: logical axis rules.
      rows_per_microbatch: rows that go through the model at once, over all devices.
      row_length: positions of a row.

    Raises:
      ValueError: says of every setting that does not divide by how much it must, and what to choose instead.
    """
    problems = []
    for setting, names in MODEL_SETTINGS.items():
        length = getattr(config, setting)
        for axes, parts, undivided in _splits(length, names, mesh, rules):
            divisors = ", ".join(str(n) for n in range(1, parts) if length % n == 0)
            replicate = " = ".join(f"LogicalAxisRules.{name}" for name in undivided)
            problems.append(
                f"{setting} = {length} is not divisible by {axes} = {parts}: choose {axes} from {divisors}, or hold "
                f"whole copies with {replicate} = ()"
            )
    batch = {"rows_per_microbatch": (rows_per_microbatch, "activation_batch"),
             "row_length": (row_length, "activation_length")}  # fmt: skip
    for setting, (length, name) in batch.items():
        for axes, parts, _ in _splits(length, (name,), mesh, rules):
            problems.append(
                f"{setting} = {length} is not divisible by {axes} = {parts}: choose {setting} = "
                f"{-(-length // parts) * parts}, or a {axes} that divides {length}"
            )
    if problems:
        sizes = ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
        raise ValueError(f"model {config.name!r} does not fit the mesh ({sizes}):\n  " + "\n  ".join(problems))


def rows_on(mesh: Mesh | AbstractMesh, rules: LogicalAxisRules, rows_per_microbatch: int) -> int:
    """The rows of a microbatch on a mesh: raised to a multiple of the devices that they are dealt over.

    What an update computes is the same for any number; on more devices than there are rows, some rows are padding.
    """
    parts = axes_size(mesh, tuple(rules.activation_batch))
    return -(-rows_per_microbatch // parts) * parts


def _splits(
    length: int, names: tuple[str, ...], mesh: Mesh | AbstractMesh, rules: LogicalAxisRules
) -> list[tuple[str, int, list[str]]]:
    """(mesh axes, their size, logical names) wherever these names' mesh axes do not divide `length`."""
    names_of: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        names_of.setdefault(tuple(getattr(rules, name)), []).append(name)
    undivided = [axes for axes in names_of if length % axes_size(mesh, axes)]
    return [(" x ".join(axes), axes_size(mesh, axes), names_of[axes]) for axes in undivided]
