"""The settings file of `humpback launch`: one small TOML file that names the machines and what they get."""

import dataclasses
import os
import pathlib
import re
import tomllib
from typing import Any

from humpback_jax.hardware import Slice, get_slice

# The settings file that `humpback launch init` writes for each backend, in the folder of `launch_files`.
TEMPLATES = {"tpu": "tpu_spot.toml", "compute": "compute.toml", "gke": "gke.toml", "ssh": "ssh.toml"}
PLACEHOLDER = re.compile(r"<[^<>]+>")
CHOICES = {
    "backend": tuple(TEMPLATES),
    "capacity": ("spot", "reserved", "on_demand"),
    "transport": ("ssh", "shell"),
}
# The port that a project's default firewall rules open between its TPU VMs; JAX's own default, 8482, is shut.
PORT = 8476
JAX, LIBTPU = "0.10.2", "0.0.42.1"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,30}[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `launch.toml` says.

    Every field is explained beside its value in the files of the folder `launch` (a test holds that none is missing);
    `folder` is that of the settings file, set by `read_settings`.
    """

    name: str
    backend: str
    bucket: str
    project: str = ""
    zone: str = ""
    slice: str = ""
    capacity: str = "spot"
    reservation: str = ""
    queued: bool = True
    valid_hours: int = 24
    runtime: str = ""
    service_account: str = ""
    internal_ip: bool = False
    hosts: tuple[str, ...] = ()
    transport: str = "ssh"
    ssh_options: tuple[str, ...] = ()
    python: str = ""
    package: str = ""
    jax: str = JAX
    libtpu: str = LIBTPU
    python_version: str = "3.12"
    image: str = ""
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    port: int = PORT
    start_seconds: int = 600
    heartbeat_seconds: int = 60
    restarts: int = 10
    wait_minutes: float = 24 * 60
    folder: str = "."

    def __post_init__(self) -> None:
        for field, choices in CHOICES.items():
            if getattr(self, field) not in choices:
                raise ValueError(f"{field} = {getattr(self, field)!r}: expected one of {', '.join(choices)}")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name = {self.name!r}: expected a letter, then up to 31 of a-z, 0-9 and dashes")
        if absent := [field for field in self._needed() if not getattr(self, field)]:
            raise ValueError(f"`{absent[0]}` is missing; backend = {self.backend!r} needs it")
        if self.slice:
            get_slice(self.slice)
        self._check_backend()
        self._check_variables()

    def _needed(self) -> list[str]:
        """The fields that this backend cannot do without."""
        if self.backend == "ssh":
            return ["hosts", "python"]
        needed = ["project", "zone", "slice"]
        needed += ["image"] if self.backend == "gke" else [] if self.python else ["package"]
        return needed + (["reservation"] if self.capacity == "reserved" and self.backend != "tpu" else [])

    def _check_backend(self) -> None:
        if self.backend == "gke" and self.secrets:
            raise ValueError(
                "secrets are not passed with backend = 'gke': XPK would write their values into the JobSet, for all "
                "users of the cluster to read; let the image read them from Secret Manager instead"
            )
        if self.backend == "compute" and self.tpu_slice.chip.machine is None:
            raise ValueError(f"slice = {self.slice!r}: Compute Engine does not offer it; use backend = 'tpu' or 'gke'")
        starts: tuple[str, ...] = ("gs://",)
        places = "gs://NAME, in the region of the slice"
        if self.backend == "ssh":
            starts, places = ("gs://", "/"), "gs://NAME, or the full path of a shared folder"
        if not self.bucket.startswith(starts):
            raise ValueError(f"bucket = {self.bucket!r}: expected {places}")

    def _check_variables(self) -> None:
        for variable in (*self.env, *self.secrets):
            if not re.fullmatch(r"[A-Za-z_]\w*", variable):
                raise ValueError(f"{variable!r} in env or secrets is no name of a variable")
        suspicious = [name for name in self.env if re.search(r"TOKEN|SECRET|PASSWORD|API_KEY|CREDENTIAL", name)]
        if suspicious:
            raise ValueError(
                f"env.{suspicious[0]} looks like a secret, and env is written to logs; name it in `secrets` and set it "
                "in the environment of `humpback launch`"
            )

    @property
    def tpu_slice(self) -> Slice:
        return get_slice(self.slice)

    @property
    def region(self) -> str:
        """`us-west4` of `us-west4-a`."""
        return self.zone.rpartition("-")[0]

    @property
    def state_dir(self) -> pathlib.Path:
        """What `humpback launch` itself keeps: the job, its log, copies of the workers' logs."""
        return pathlib.Path(self.folder) / ".launch" / self.name

    @property
    def worker_dir(self) -> str:
        """Folder on a worker, below the home of its user."""
        return f".humpback/{self.name}"


def read_settings(path: str | os.PathLike[str]) -> Settings:
    """Reads a settings file.

    Raises:
      ValueError: the file is no TOML, or a field is unknown, missing or of the wrong kind; names file and field.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{path}: no such settings file; humpback launch init BACKEND writes one (tpu, compute, gke, ssh), and "
            "docs/launch.md explains"
        )
    try:
        values = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not valid TOML ({error})") from error
    try:
        return Settings(**_checked(values), folder=str(file.resolve().parent))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    fields = {field.name: field for field in dataclasses.fields(Settings) if field.name != "folder"}
    if unknown := sorted(values.keys() - fields.keys()):
        raise ValueError(f"unknown field {unknown[0]!r}; there are {', '.join(fields)}")
    if absent := [name for name in ("name", "backend", "bucket") if name not in values]:
        raise ValueError(f"`{absent[0]}` is missing")
    for name, value in values.items():
        if isinstance(value, str | list) and PLACEHOLDER.search(str(value)):
            raise ValueError(f"{name} = {value!r} is still as `humpback launch init` wrote it: put your own")
    return {name: _converted(name, value, fields[name].type) for name, value in values.items()}


def _converted(name: str, value: Any, kind: Any) -> Any:
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if kind == dict[str, str] and isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (str, int, bool) and type(value) is kind:
        return value
    raise ValueError(f"{name} = {value!r}: expected {getattr(kind, '__name__', kind)}")


def launch_files() -> pathlib.Path:
    """The folder `launch`, which people copy from and whose scripts go to workers.

    It is inside an installed package, beside the package in a checkout.
    """
    package = pathlib.Path(__file__).resolve().parent.parent
    installed = package / "launch_files"
    return installed if installed.is_dir() else package.parent / "launch"


def placeholders(settings_file: pathlib.Path) -> list[str]:
    """Names of the fields of a settings file whose value has yet to be put in place of `<…>`."""
    lines = [line for line in settings_file.read_text().splitlines() if not line.startswith("#")]
    return [line.partition(" ")[0] for line in lines if PLACEHOLDER.search(line.partition("#")[0])]
