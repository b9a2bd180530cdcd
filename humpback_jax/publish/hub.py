"""Folders to the Hugging Face hub."""

import sys

from humpback_jax.files import PathLike
from humpback_jax.runtime.console import say
from humpback_jax.weights.find import HUB


def hub_name(destination: str) -> str | None:
    """ORG/NAME of a destination on the hub, None where it is a folder; ValueError for another shape of name."""
    if not destination.startswith(HUB):
        return None
    name = destination.removeprefix(HUB)
    if name.count("/") != 1 or not all(name.split("/")):
        raise ValueError(f"{destination}: expected {HUB}ORG/NAME")
    return name


def push(folder: PathLike, name: str, kind: str, private: bool) -> str:
    """Uploads a folder to a repository, which is made where there is none; returns its address.

    Args:
      folder: what to upload, as it is.
      name: ORG/NAME.
      kind: "dataset" or "model".
      private: of a repository that is made now.

    Raises:
      ConnectionError: the hub cannot be reached, or refuses; the folder stays.
    """
    import huggingface_hub

    network_error = getattr(sys.modules.get("httpx"), "HTTPError", OSError)
    say(f"uploading {folder} to {name}")
    try:
        api = huggingface_hub.HfApi()
        api.create_repo(name, repo_type=kind, private=private, exist_ok=True)
        commit = api.upload_folder(folder_path=str(folder), repo_id=name, repo_type=kind)
    except (huggingface_hub.errors.HfHubHTTPError, network_error, OSError) as error:
        raise ConnectionError(
            f"{name} was not uploaded ({type(error).__name__}: {error}). What would be pushed lies in {folder}; "
            f"later: hf auth login, hf upload {name} {folder} --repo-type={kind}"
        ) from error
    return str(commit.commit_url)
