"""Training metrics: JSON lines for programs, TensorBoard for people; a restart continues both without repeats."""

import json

from etils import epath

from humpback_jax.files import PathLike, jsonl_line, write_atomically


class MetricsWriter:
    """Writes one row per update to `metrics.jsonl` and to a TensorBoard event file."""

    def __init__(self, directory: PathLike, first_step: int) -> None:
        """Rows of updates after `first_step` (written by a run that was cut off) are dropped."""
        from tensorboardX import SummaryWriter  # imports protobuf: only training pays for it

        self._path = epath.Path(directory) / "metrics.jsonl"
        kept = []
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    break  # the last line of a run that was killed while writing
                if row["step"] <= first_step:
                    kept.append(row)
        write_atomically(self._path, "".join(map(jsonl_line, kept)))
        self._stream = self._path.open("a")
        self._tensorboard = SummaryWriter(str(epath.Path(directory) / "tensorboard"), purge_step=first_step + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds the values of update number `step` (counted from 1)."""
        self._stream.write(jsonl_line({"step": step, **values}))
        self._stream.flush()
        for name, value in values.items():
            self._tensorboard.add_scalar(f"training/{name}", value, step)

    def close(self) -> None:
        """Flushes both files."""
        self._stream.close()
        self._tensorboard.close()
