"""What people copy and edit to launch, and what is sent to workers: the folder `launch` of a checkout."""

import pathlib


def launch_files() -> pathlib.Path:
    """The folder: inside an installed package, beside the package in a checkout."""
    package = pathlib.Path(__file__).resolve().parent.parent
    installed = package / "launch_files"
    return installed if installed.is_dir() else package.parent / "launch"
