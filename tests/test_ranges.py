"""What a setting may be: kinds of declarations, and every bad value of a gin file named before anything is made."""

import dataclasses
import os
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from humpback_jax.gin_utils import CONFIGURABLES, RecipeFaults, parse_recipe
from humpback_jax.ranges import NaturalInt, OneOf, PathText, Range, Share, check_fields, declared_fields, fault_of

NEEDED = ("Recipe.base = 'somewhere'", "SeedConfig.path = 'seeds.jsonl'", "SegmentsConfig.inputs = ('pages',)")

# What is bound, and what the message says that the field takes.
BAD_VALUES = """
Recipe.base = 5 | a text
Recipe.base = None | a text
Recipe.base = '' | a path
Recipe.chat_format = 'alpaca' | among plain
Recipe.prompt_dir = ('a',) | a text
Recipe.rounds = 0 | at least 1
Recipe.rounds = -1 | at least 1
Recipe.rounds = '2' | at least 1
Recipe.rounds = 2.0 | at least 1
Recipe.candidates = 0 | at least 1
Recipe.sources = 'seed' | several texts
Recipe.sources = ('seed', 'crawl') | among seed, web
Recipe.seed_tags = 'seed' | several texts
Recipe.web_tags = ('ai',) | among seed, web
Recipe.answer_tags = None | several texts
Recipe.arms = ('best',) | among random, longest, rewritten
Recipe.data_reader = 'torch' | among seqio, direct
Recipe.extra_mixtures = 'module:name' | several texts
Recipe.mesh = 'data=2' | a MeshShape
Recipe.selection = @CorpusConfig() | a SelectionConfig
Recipe.selection = @SelectionConfig | a SelectionConfig
SeedConfig.path = None | a text
SeedConfig.limit = 0 | at least 1
SeedConfig.limit = 'none' | None
SegmentsConfig.inputs = 'pages' | several texts
SegmentsConfig.inputs = ('pages', 3) | several texts
CorpusConfig.include_header = 'false' | True or False
CorpusConfig.markdown = 0 | True or False
CorpusConfig.min_chars = 0 | at least 1
CorpusConfig.max_chars = '3000' | at least 1
CorpusConfig.max_link_density = 40 | from 0 to 1
CorpusConfig.near_duplicates = 0.0 | above 0
CorpusConfig.blocked_phrases = 'cookie' | several texts
CorpusConfig.repeated_on_pages = -3 | at least 0
BatchConfig.batch_size = 0 | at least 1
BatchConfig.batch_size = '12' | at least 1
BatchConfig.batch_size = 1e1 | a whole number
BatchConfig.row_length = -448 | at least 1
BatchConfig.rows_per_microbatch = 0.5 | a whole number
BatchConfig.packing = 'yes' | True or False
BatchConfig.batch_unit = 'rows' | among examples, tokens
backward/BatchConfig.seed = -1 | at least 0
LoopConfig.num_steps = 0 | at least 1
LoopConfig.epochs = 0 | above 0
LoopConfig.epochs = True | a number
LoopConfig.step_table = ((1, 2),) | rows of
LoopConfig.step_limit_minutes = 0 | above 0
CheckpointConfig.minutes = 0 | above 0
CheckpointConfig.period = 2.5 | a whole number
CheckpointConfig.cast_on_resume = 'no' | True or False
ComputeConfig.dtype = 'fp32' | among float32, bfloat16
ComputeConfig.dropout = 1.5 | below 1
ComputeConfig.dropout = -0.1 | at least 0
ComputeConfig.remat_policy = 'all' | among none, full
ComputeConfig.logits_chunk = 0 | at least 1
ComputeConfig.dropout_schedule = 'cosine' | among constant, linear
OptimizerConfig.learning_rate = 0 | above 0
OptimizerConfig.learning_rate = '1e-5' | a number
OptimizerConfig.learning_rate = 10 | at most 1
OptimizerConfig.max_grad_norm = 0.0 | above 0 or None
OptimizerConfig.b2 = 1.0 | below 1
OptimizerConfig.weight_decay = -0.1 | at least 0
OptimizerConfig.warmup_steps = 1.5 | a whole number
EngineConfig.slots = 0 | at least 1
EngineConfig.prompt_buckets = 256 | several whole numbers
EngineConfig.prompt_buckets = (0, 64) | several whole numbers
EngineConfig.max_new_tokens = 0 | at least 1
answer/EngineConfig.max_new_tokens = -5 | at least 1
EngineConfig.kv_dtype = 'int4' | among float32, bfloat16, int8
EngineConfig.tensor_parallelism = 0 | at least 1
EngineConfig.overlap = 'auto' | True or False or None
SamplingConfig.temperature = -1 | at least 0
SamplingConfig.top_p = 0 | above 0
SamplingConfig.top_p = 90 | at most 1
GenerationConfig.shard_size = 0 | at least 1
GenerationConfig.weight_dtype = 'int4' | among float32, bfloat16, int8
CurationConfig.mode = 'guess' | among rationale, sampled, expected
CurationConfig.samples = 0 | at least 1
SelectionConfig.keep_fraction = 35 | of at most 1
SelectionConfig.keep_fraction = -0.1 | above 0
SelectionConfig.keep_fraction = '1/3' | a number
SelectionConfig.min_score = -1 | of at least 0
SelectionConfig.sample = 0 | at least 1
SelectionConfig.gates = 'fit >= 0' | several texts
EvaluationConfig.tags = ('both',) | among seed, web
MeshShape.data = 0 | at least 1 or -1
MeshShape.tensor = -2 | at least 1 or -1
""".strip().splitlines()


def parse(*bindings):
    return parse_recipe(["defaults.gin"], (*NEEDED, *bindings))


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_bad_value_is_named_with_what_its_field_takes(case):
    binding, accepted = case.split(" | ")
    name, value = binding.split(" = ")
    with pytest.raises(RecipeFaults) as caught:
        parse(binding)
    (fault,) = caught.value.faults
    assert fault.startswith(f"{name} takes ")
    takes, _, found = fault.partition(", found ")
    assert accepted in takes
    if not value.startswith(("@", "1e")):
        assert found.startswith(value)


def test_all_bad_values_are_named_at_once_and_the_rest_is_read():
    bindings = [case.split(" | ")[0] for case in BAD_VALUES]
    different = list({binding.split(" = ")[0]: binding for binding in bindings}.values())
    with pytest.raises(RecipeFaults) as caught:
        parse(*different, "Recipe.rounds = 7")
    names = {binding.split(" = ")[0] for binding in different} - {"Recipe.rounds"}
    assert {fault.partition(" takes ")[0] for fault in caught.value.faults} == names
    with pytest.raises(RecipeFaults) as caught:
        parse("Recipe.rounds = 7", "BatchConfig.batch_size = 0")
    assert (caught.value.rest.rounds, caught.value.rest.forward.batches.batch_size) == (7, 32)


def test_a_macro_is_held_to_the_field_that_reads_it():
    with pytest.raises(RecipeFaults, match=r"LoopConfig\.epochs takes a number above 0, found %EPOCHS"):
        parse("EPOCHS = 'three'", "LoopConfig.epochs = %EPOCHS")


@pytest.mark.parametrize(
    ("binding", "advice"),
    [
        ("CorpusConfig.include_header = 'False'", "write False"),
        ("SeedConfig.limit = 'null'", "write None"),
        ("SegmentsConfig.inputs = 'a b'", r"write \('a b',\)"),
        ("LoopConfig.epochs = '1.5'", "write it without quotes"),
    ],
)
def test_what_to_write_instead_is_said(binding, advice):
    with pytest.raises(RecipeFaults, match=advice):
        parse(binding)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match=r"final_learning_rate is 9e-06, above learning_rate = 1e-07"):
        parse("OptimizerConfig.learning_rate = 1e-7")
    with pytest.raises(ValueError, match=r"min_instruction_chars is 900, above max_instruction_chars = 800"):
        parse("SelectionConfig.min_instruction_chars = 900")


def test_paths_are_those_of_a_shell(monkeypatch):
    monkeypatch.setenv("PLACE", "/data")
    recipe = parse("SeedConfig.path = '~/s (1).jsonl'", "SegmentsConfig.inputs = ['$PLACE/p', 'gs://b/[x]%y']")
    assert recipe.seeds.path == os.path.expanduser("~/s (1).jsonl")
    assert recipe.segments.inputs == ("/data/p", "gs://b/[x]%y")


def test_every_number_of_a_recipe_has_a_range():
    """A bare `int` or `float` takes anything; only a declared range can name what is out of it."""
    bare = [
        f"{cls.__name__}.{name}"
        for cls in CONFIGURABLES
        for name, kind in declared_fields(cls).items()
        if kind in (int, float, int | None, float | None)
    ]
    assert not bare


@dataclasses.dataclass(frozen=True)
class Settings:
    count: NaturalInt = 0
    axis: Annotated[int, Range(1)] | Literal[-1] = -1
    share: Share | None = None
    names: tuple[Annotated[str, OneOf("a", "b")], ...] = ()
    sizes: tuple[int, float] = (1, 1.0)
    place: PathText = "x"

    def __post_init__(self):
        check_fields(self)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
)


@given(st.sampled_from(sorted(declared_fields(Settings))), VALUES)
def test_any_value_is_taken_or_named(name, value):
    fault = fault_of(declared_fields(Settings)[name], value)
    if fault is None:
        made = Settings(**{name: value})
        assert dataclasses.replace(made) == made
        hash(made)
    else:
        with pytest.raises(ValueError, match=rf"^Settings\.{name} takes "):
            Settings(**{name: value})


def test_all_faults_of_one_object_are_named():
    with pytest.raises(ValueError, match=r"Settings\.count takes .*; Settings\.names takes several texts among a, b"):
        Settings(count=-1, names=("c",))
