"""TFDS builders of what the pipeline reads and writes: seed pairs, segments, curated pairs.

Importing this module registers them: `tfds.load("humpback_curated", data_dir=…)`. They read local files and download
nothing. As always in TFDS, examples are shuffled once, by a hash of their number: seqio refuses to train on an ordered
data set. `build` is what `humpback data tfds` does.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from humpback_jax.corpus.segment_files import read_segments
from humpback_jax.data.pairs import read_curated, read_pairs
from humpback_jax.files import PathLike, read_jsonl

FIRST_VERSION = "1.0.0"
FILE_FORMAT = "tfrecord"  # the only format that seqio's TfdsDataSource reads
_TEXT = tfds.features.Text()
_PAIR = {"id": _TEXT, "instruction": _TEXT, "output": _TEXT, "source": _TEXT}


class _LocalBuilder(tfds.core.GeneratorBasedBuilder):
    """One local file as the split "train"."""

    VERSION = tfds.core.Version(FIRST_VERSION)
    RELEASE_NOTES = {FIRST_VERSION: "First version."}  # noqa: RUF012 - the name and type that TFDS asks for
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put the one file into manual_dir, or pass builder_kwargs={'path': FILE}."
    FEATURES: Any = None
    DESCRIPTION = ""

    def __init__(self, *, path: PathLike | None = None, **kwargs: Any) -> None:
        """`path`: the file to build from; None: the only file in `manual_dir`."""
        self._path = path
        super().__init__(**{"file_format": FILE_FORMAT} | kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(self.FEATURES)
        return tfds.core.DatasetInfo(builder=self, description=self.DESCRIPTION, features=features)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"train": self._generate_examples(self._path or self._manual_path(epath.Path(dl_manager.manual_dir)))}

    def _manual_path(self, manual_dir: epath.Path) -> epath.Path:
        return _only_file(manual_dir)

    def _generate_examples(self, path: PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
        return enumerate(self._rows(path))

    def _rows(self, path: PathLike) -> Iterator[dict[str, Any]]:
        raise NotImplementedError


class HumpbackSeeds(_LocalBuilder):
    """Seed pairs of any format that `read_pairs` reads; of Open Assistant the paper's selection."""

    FEATURES = _PAIR
    DESCRIPTION = "Seed pairs: first turns with the best-ranked reply where the file is Open Assistant's."

    def _rows(self, path: PathLike) -> Iterator[dict[str, Any]]:
        return (vars(pair) for pair in read_pairs(path).pairs)


class HumpbackSegments(_LocalBuilder):
    """Segments of web pages: `path` (or `manual_dir`) is a folder that `humpback corpus build` has written."""

    FEATURES = {"id": _TEXT, "url": _TEXT, "header": _TEXT, "text": _TEXT}  # noqa: RUF012
    DESCRIPTION = "Segments of web pages: a header and the text below it."

    def _manual_path(self, manual_dir: epath.Path) -> epath.Path:
        return manual_dir

    def _rows(self, path: PathLike) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read_segments(path), start=1):
            if missing := sorted(self.FEATURES.keys() - row.keys()):
                raise ValueError(
                    f"{path}: row {number} has no {missing[0]!r}; expected a folder of `humpback corpus build`"
                )
            yield {name: row[name] for name in self.FEATURES}


class HumpbackCurated(_LocalBuilder):
    """Pairs that a round of curation kept, with their scores."""

    FEATURES = _PAIR | {"score": np.float32}
    DESCRIPTION = (
        "Self-augmented pairs that a round of self-curation kept; score is by the rubric, NaN where a row has none."
    )

    def _rows(self, path: PathLike) -> Iterator[dict[str, Any]]:
        scores = [row.get("score") for _, row in read_jsonl(path)]
        for pair, score in zip(read_curated(path), scores, strict=True):
            yield vars(pair) | {"score": np.float32(np.nan if score is None else score)}


BUILDERS: dict[str, Callable[..., _LocalBuilder]] = {
    "seeds": HumpbackSeeds,
    "segments": HumpbackSegments,
    "curated": HumpbackCurated,
}


def build(kind: str, path: PathLike, data_dir: PathLike, num_shards: int | None = None) -> dict[str, Any]:
    """Prepares a data set from a file.

    Args:
      kind: a key of `BUILDERS`.
      path: the file; of segments the folder.
      data_dir: where TFDS keeps its data sets.
      num_shards: files of the data set; training on several hosts wants a multiple of them. None: TFDS decides.

    Returns:
      {"name", "examples", "path"}; the name is what `seqio.TfdsDataSource` takes.

    Raises:
      FileNotFoundError: no such file.
      FileExistsError: this data set is in `data_dir` already.
    """
    if not epath.Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; give the file to build {kind} from")
    builder = BUILDERS[kind](path=path, data_dir=data_dir)
    if epath.Path(builder.data_dir).exists():
        raise FileExistsError(f"{builder.data_dir} exists already; delete it, or choose another --data_dir")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=num_shards))
    name = f"{builder.name}:{builder.version}"
    return {"name": name, "examples": builder.info.splits["train"].num_examples, "path": str(builder.data_dir)}


def _only_file(folder: epath.Path) -> epath.Path:
    files = [file for file in sorted(folder.iterdir()) if not file.is_dir()]
    if len(files) != 1:
        raise ValueError(
            f"{folder} holds {len(files)} files; put exactly one there, or pass builder_kwargs={{'path': FILE}}"
        )
    return files[0]
