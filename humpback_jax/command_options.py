"""The options that verbs of every room share, declared once; those that travel together reach a verb as one object.

experiment_options   --gin_file, --gin.NAME=VALUE, --run_dir          experiment: Experiment
recipe_options       the same without a run directory                 experiment: Experiment
monitoring_options   --profile_steps, --wandb_project                 part of the experiment
model_options        --dtype, --weight_dtype, --tensor_parallelism    compute: ComputeOptions
tags_option          --tags                                           tags: the tags as a tuple
json_option          --json                                           as_json: bool
config_options(cls)  one per field of a settings class                config: an object of the class
process_options      --process_index, --process_count, --coordinator  settled before the verb runs
"""

import dataclasses
import functools
import inspect
import os
import re
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from humpback_jax.ranges import expand_path
from humpback_jax.run_files import CONFIG, default_run_dir
from humpback_jax.runtime.compilation_cache import use_compilation_cache
from humpback_jax.runtime.console import say
from humpback_jax.runtime.distributed import join_processes
from humpback_jax.runtime.processes import is_leader, set_process
from humpback_jax.runtime.stopping import stop_on_sigterm

T = TypeVar("T")

TAG_NAMES = ("both", "seed", "web", "none")
NOTHING = "none"  # on the command line: None, or no text at all

_ATTRIBUTE = re.compile(r"^ {2}(\w+(?:, \w+)*): (.*(?:\n {4}.*)*)", re.MULTILINE)
_SHOWN_TEXTS = 3  # of a default, in the help


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What the command line says about a recipe, its run directory, and what is watched while it trains."""

    gin_files: tuple[str, ...]
    gin_bindings: tuple[str, ...] = ()
    run_dir: str | None = None
    profile_steps: str | None = None
    wandb_project: str | None = None

    def recipe(self, bindings: Sequence[str] = ()) -> Any:
        """The `Recipe` of the gin files and bindings, with `bindings` on top."""
        from humpback_jax.gin_utils import parse_recipe

        return parse_recipe(self.recipe_files, (*self.gin_bindings, *bindings))

    @property
    def recipe_files(self) -> tuple[str, ...]:
        """The gin files that are named; where none is, what the run directory was begun with."""
        if self.gin_files or self.run_dir is None:
            return self.gin_files
        own = os.path.join(expand_path(self.run_dir), CONFIG)
        if not os.path.exists(own):
            raise ValueError(f"{self.run_dir} is no run: {CONFIG} is missing; name a recipe with --gin_file")
        return (own,)

    def parse(self, cls: type[T]) -> T:
        """What the gin files bind beside the recipe: a room's own dataclass."""
        from humpback_jax.gin_utils import parse

        return parse(cls, self.recipe_files, self.gin_bindings)

    @property
    def directory(self) -> str:
        """The run directory: as given, else named after the gin files."""
        return expand_path(self.run_dir) if self.run_dir else default_run_dir(self.gin_files)

    def findings(self) -> tuple[Any, Any]:
        """What the gin files describe, None where that is no recipe, and the `Findings` of all that it will need."""
        from humpback_jax.gin_utils import RecipeFaults
        from humpback_jax.preflight import check_run, fault

        try:
            recipe, found = self.recipe(), fault()
        except RecipeFaults as error:
            recipe, found = error.rest, fault(*error.faults)
        return recipe, found if recipe is None else found + check_run(recipe, self.directory)

    def open_alignment(self, changes: bool = False) -> Any:
        """The `Alignment` in its run directory, where the leader keeps the gin text that began or `changes` it."""
        from humpback_jax.align import Alignment
        from humpback_jax.gin_utils import config_texts
        from humpback_jax.training.monitoring import Monitoring, parse_profile_steps

        profile_steps = parse_profile_steps(self.profile_steps) if self.profile_steps else None
        recipe = self.recipe()
        run_dir = self.directory
        alignment = Alignment(recipe, run_dir, Monitoring(profile_steps, self.wandb_project))
        if is_leader():
            # The directory was once named after the last gin file alone, whatever came before it.
            older = default_run_dir(self.gin_files[-1:])
            if self.run_dir is None and os.path.exists(older) and not os.path.exists(run_dir):
                say(f"a new run begins in {run_dir}; to go on with what is in {older}, add --run_dir={older}")
            alignment.save_config(*config_texts(), changes)
        return alignment


def recipe_of_model(folder: Any) -> Any:
    """The `Recipe` of the run that a model folder, RUN_DIR/STAGE/model, lies in; None where it lies in none."""
    from humpback_jax.gin_utils import parse_recipe

    config = os.path.join(os.path.dirname(os.path.dirname(os.fspath(folder))), CONFIG)
    if not os.path.exists(config):
        return None
    try:
        return parse_recipe([config], ())
    except ValueError as error:
        say(f"{config} is not a recipe here, so the defaults are taken ({error})")
        return None


@dataclasses.dataclass(frozen=True)
class ComputeOptions:
    """How a model is computed: dtype of activations and weights, dtype of weights if another, devices per copy."""

    dtype: str
    weight_dtype: str | None
    tensor_parallelism: int


def with_options(verb: Any, *options: Callable[[Any], Any]) -> Any:
    for option in reversed(options):
        verb = option(verb)
    return verb


def gathered(verb: Any, name: str, cls: Any) -> Any:
    """`verb`, which takes one object `name` of class `cls` instead of the options that its fields are named after."""

    @functools.wraps(verb)
    def with_object(*args: Any, **kwargs: Any) -> Any:
        values = {field.name: kwargs.pop(field.name) for field in dataclasses.fields(cls) if field.name in kwargs}
        return verb(*args, **{name: cls(**values)}, **kwargs)

    return with_object


def recipe_options(verb: Any) -> Any:
    """Options that name a recipe; the verb takes `experiment`."""
    return with_options(
        gathered(verb, "experiment", Experiment),
        click.option("--gin_file", "gin_files", multiple=True, help="Gin file; overrides: --gin.NAME=VALUE."),
        click.option("--gin_bindings", multiple=True, hidden=True),
    )


def experiment_options(verb: Any) -> Any:
    """Options that name a recipe and its run directory; the verb takes `experiment`."""
    help_text = "Where results go (default: runs/ and the names of the gin files); has its own recipe once begun."
    return with_options(recipe_options(verb), click.option("--run_dir", type=click.Path(), help=help_text))


def monitoring_options(verb: Any) -> Any:
    """Options of verbs that train, beside `experiment_options`."""
    return with_options(
        verb,
        click.option("--profile_steps", metavar="A:B", help="Trace updates A to B into the stage's profile/."),
        click.option("--wandb_project", help="Report the metrics to this project of Weights & Biases too."),
    )


def model_options(verb: Any) -> Any:
    """Options of verbs that run a model of no recipe; the verb takes `compute`."""
    return with_options(
        gathered(verb, "compute", ComputeOptions),
        click.option("--dtype", default="float32", show_default=True, help="Of activations and weights."),
        click.option("--weight_dtype", help="Of weights, if another: float32, bfloat16 or int8."),
        click.option("--tensor_parallelism", type=int, default=1, show_default=True, help="Devices per copy."),
    )


class _TagsType(click.Choice):
    """The name of a choice of tags to the tags themselves."""

    def __init__(self) -> None:
        super().__init__(TAG_NAMES)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "ai":
            self.fail("the tag `ai` is called `seed`: write --tags seed", param, ctx)
        name = super().convert(value, param, ctx)
        from humpback_jax.prompts.prompts import TAG_CHOICES

        return TAG_CHOICES[name]


def tags_option(default: str | None, help_text: str) -> Any:
    """--tags; the verb takes `tags`, a tuple, or None where nothing is the default."""
    return click.option("--tags", type=_TagsType(), default=default, show_default=default is not None, help=help_text)


json_option = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


def process_options(verb: Any) -> Any:
    """For verbs that work on a run or a model, however many processes run them.

    Says which process this is, joins it to the others, gives SIGTERM its meaning, and keeps compiled programs.
    """

    @functools.wraps(verb)
    def joined(*args: Any, **kwargs: Any) -> Any:
        set_process(kwargs.pop("process_index"), kwargs.pop("process_count"))
        with stop_on_sigterm():
            use_compilation_cache()
            join_processes(kwargs.pop("coordinator"))
            return verb(*args, **kwargs)

    return with_options(
        joined,
        click.option("--process_index", type=int, help="Which of them this is, from 0; all run the same command."),
        click.option("--process_count", type=int, help="Processes that share this job (default: 1)."),
        click.option("--coordinator", metavar="HOST:PORT", help="Of process 0: all processes train together."),
    )


def unless_subcommand(verb: Any) -> Any:
    """For a group that is a verb itself where no subcommand is named."""

    @functools.wraps(verb)
    def alone(**options: Any) -> None:
        context = click.get_current_context()
        if context.invoked_subcommand is None:
            verb(**options) if options["gin_files"] or options.get("run_dir") else click.echo(context.get_help())

    return alone


def config_options(cls: type[Any]) -> Callable[[Any], Any]:
    """An option for every field of a frozen dataclass of settings; the verb takes `config`, an object of it.

    Type and default are the field's, the help is what the class says under `Attributes:`. A tuple is an option that can
    be given several times. `none` is None, or the empty tuple. The class itself says what is wrong with a value.
    """
    helps, kinds = _attribute_helps(cls), typing.get_type_hints(cls)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    options = [_field_option(field, kinds[field.name], helps.get(field.name, "")) for field in fields]
    names = [field.name for field in fields]

    def add(verb: Any) -> Any:
        @functools.wraps(verb)
        def with_config(*args: Any, **kwargs: Any) -> Any:
            given = {name: kwargs.pop(name) for name in names}
            values = {name: value for name, value in given.items() if value not in (None, ())}
            return verb(*args, config=cls(**{name: _read_value(value) for name, value in values.items()}), **kwargs)

        return with_options(with_config, *options)

    return add


def _attribute_helps(cls: type[Any]) -> dict[str, str]:
    """What a class says about its attributes, by name; of those described together the first has the words."""
    text = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    helps: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        first, *others = match[1].split(", ")
        words = " ".join(match[2].split())
        helps |= {first: words[:1].upper() + words[1:]} | dict.fromkeys(others, f"See --{first}.")
    return helps


def _field_option(field: Any, kind: Any, words: str) -> Callable[[Any], Any]:
    default = field.default
    if kind is bool:
        shown = f"Default: {'on' if default else 'off'}."
        return click.option(f"--{field.name}/--no_{field.name}", default=None, help=f"{words} {shown}")
    if typing.get_origin(kind) is tuple:
        shown = ", ".join(default[:_SHOWN_TEXTS]) + (", …" if len(default) > _SHOWN_TEXTS else "")
        words = f"{words} Can be given several times. Default: {shown or NOTHING}."
        return click.option(f"--{field.name}", multiple=True, metavar="TEXT", help=words)
    kinds = typing.get_args(kind) or (kind,)
    scalar = next(each for each in kinds if each is not type(None))
    shown = f"Default: {NOTHING if default is None else default}."
    return click.option(f"--{field.name}", type=_ScalarType(scalar, type(None) in kinds), help=f"{words} {shown}")


class _ScalarType(click.ParamType):
    """A number or text, or `none` where the field may be None."""

    def __init__(self, kind: type[Any], optional: bool) -> None:
        self.kind, self.optional = kind, optional
        self.name = kind.__name__

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if self.optional and value == NOTHING:
            return NOTHING
        try:
            return self.kind(value)
        except ValueError:
            words = {int: "a whole number", float: "a number"}[self.kind]
            self.fail(f"{value!r} is not {words}{f' or {NOTHING}' if self.optional else ''}", param, ctx)


def _read_value(value: Any) -> Any:
    """None and the empty tuple have the word `none` on the command line."""
    if value == NOTHING:
        return None
    return () if value == (NOTHING,) else value
