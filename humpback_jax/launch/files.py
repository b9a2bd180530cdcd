"""What people copy and edit to launch, and what is sent to workers: the folder `launch` of a checkout."""

import pathlib
import re

# The settings file that `humpback launch init` writes for each backend.
TEMPLATES = {"tpu": "tpu_spot.toml", "compute": "compute.toml", "gke": "gke.toml", "ssh": "ssh.toml"}
PLACEHOLDER = re.compile(r"<[^<>]+>")


def launch_files() -> pathlib.Path:
    """The folder: inside an installed package, beside the package in a checkout."""
    package = pathlib.Path(__file__).resolve().parent.parent
    installed = package / "launch_files"
    return installed if installed.is_dir() else package.parent / "launch"


def placeholders(settings_file: pathlib.Path) -> list[str]:
    """Names of the fields of a settings file whose value has yet to be put in place of `<…>`."""
    lines = [line for line in settings_file.read_text().splitlines() if not line.startswith("#")]
    return [line.partition(" ")[0] for line in lines if PLACEHOLDER.search(line.partition("#")[0])]
