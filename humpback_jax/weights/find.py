"""What people name a model by, everywhere the same: its folder, its stage, its run, foreign files, or a name."""

import os
import pathlib

from etils import epath

from humpback_jax.files import PathLike, sha256_of_bytes
from humpback_jax.run_files import CONFIG, MODEL, MODEL_STAGE, SEEDS_STAGE, round_of
from humpback_jax.runtime.compilation_cache import default_cache
from humpback_jax.runtime.console import say
from humpback_jax.weights.convert import import_weights
from humpback_jax.weights.fetch import cached_folder, fetch_weights
from humpback_jax.weights.model_folder import is_model_folder

MODEL_ARGUMENT = "a run directory, a stage of it, a model folder, a Hugging Face folder, a .gguf file, or a fetch name"
FOREIGN_FILES = (".gguf", ".whl", ".zip")
HUB = "hub:"


def find_model(model: PathLike, convert: bool = True) -> str:
    """The native model folder that `model` means.

    A run directory means the model of its last round that is there. Foreign weights are converted once, in float32, to
    a folder of the cache, which is found again while the files are the same.

    Args:
      model: see `MODEL_ARGUMENT`; a name of the Hugging Face hub may also be written `hub:ORG/NAME`.
      convert: False leaves foreign weights where and as they are, for what reads them itself.

    Raises:
      FileNotFoundError: a folder of this kind without a model: a run or a stage that is not complete.
      ValueError: neither a place with a model nor a name of one.
      ConnectionError: the weights of this name cannot be downloaded.
    """
    text = os.fspath(model)
    folder = epath.Path(text)
    for candidate in (folder, folder / MODEL):
        if is_model_folder(candidate):
            return os.fspath(candidate)
    if is_run_directory(folder):
        return os.fspath(last_model(folder))
    if _is_foreign(folder):
        return _converted(pathlib.Path(text).absolute()) if convert else text
    if folder.exists():
        raise FileNotFoundError(
            f"no model at {text}: expected {MODEL_ARGUMENT}. A stage has one when its training is complete; "
            "`humpback align` goes on with a run"
        )
    if text.startswith((os.sep, ".", "~")) or (os.sep in text and os.path.isdir(text.split(os.sep)[0])):
        raise FileNotFoundError(
            f"nothing at {text}: expected {MODEL_ARGUMENT}; `humpback weights fetch smollm2_135m` gets one"
        )
    return os.fspath(fetch_weights(text.removeprefix(HUB)))


def model_at_hand(model: PathLike) -> str | None:
    """The native model folder that `find_model` would give; None where it would convert or download weights first.

    Raises:
      FileNotFoundError, ValueError: as `find_model`; nothing is downloaded to find that out.
    """
    text = os.fspath(model)
    if _is_foreign(epath.Path(text)):
        folder = _cache_folder(pathlib.Path(text).absolute())
    elif epath.Path(text).exists() or text.startswith((os.sep, ".", "~")):
        return find_model(text)
    else:
        folder = cached_folder(text.removeprefix(HUB))
    return str(folder) if is_model_folder(folder) else None


def is_run_directory(folder: epath.Path) -> bool:
    """Whether `humpback align` has worked in a folder."""
    return any((folder / name).exists() for name in (CONFIG, SEEDS_STAGE))


def last_model(run_dir: epath.Path) -> epath.Path:
    """The model folder of the last round of a run that has one; FileNotFoundError where there is none yet."""
    rounds = [round_of(path.name, MODEL_STAGE) for path in run_dir.iterdir()]
    for t in sorted((t for t in rounds if t is not None), reverse=True):
        if is_model_folder(run_dir / MODEL_STAGE.format(t=t) / MODEL):
            return run_dir / MODEL_STAGE.format(t=t) / MODEL
    raise FileNotFoundError(f"the run {run_dir} has no model yet; `humpback align` goes on with it")


def _is_foreign(path: epath.Path) -> bool:
    return (path / "config.json").exists() or (path.suffix in FOREIGN_FILES and path.exists())


def _converted(path: pathlib.Path) -> str:
    """The native folder of foreign weights, made unless the same files were converted before."""
    folder = _cache_folder(path)
    if not is_model_folder(folder):
        say(f"converting {path} once, into {folder}")
        try:
            import_weights(path, folder, source=str(path))
        except FileExistsError:
            if not is_model_folder(folder):
                raise
    return str(folder)


def _cache_folder(path: pathlib.Path) -> pathlib.Path:
    """Where the conversion of foreign weights lies, by the names, sizes and times of their files."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files]
    identity = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return default_cache() / "models" / f"{path.stem}-{sha256_of_bytes(identity.encode())[:12]}"
