"""What is trained on: through seqio and straight from the pairs it is the same, example for example."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

import humpback_jax
from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.batching import BatchConfig, plan_batches
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.packing import FEATURES
from humpback_jax.data.pairs import Pair, read_pairs
from humpback_jax.data.readers import DIRECT, SEQIO, read_examples
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.tokenizers import load_tokenizer

# What C strings, UTF-8, readers of lines or padding with id 0 ("e") would change.
STRANGE = ("eee", "a\0", "\0", "x\ud800y", "\ud83d\ude00", "\ufeff 1\r\n", "\u2028", "é" * 50)
SEEDS = pathlib.Path(humpback_jax.__file__).parent / "quickstart" / "seed_pairs.jsonl"
TAGS = {"seed": ("seed",), "web": ("web",), "none": (), "both": ("seed", "web")}


def sets_of(kind, pairs):
    """The training sets of M_yx, M_0 and M_t."""
    half = len(pairs) // 2
    if kind == "m_yx":
        return [PairSet("seed", pairs, "h", "backward")]
    seeds = PairSet("seed", pairs[:half], "h", tags=TAGS["seed"])
    return [seeds] if kind == "m0" else [seeds, PairSet("web", pairs[half:], "h", tags=TAGS["web"])]


def assert_both_ways_equal(sets, tokenizer, chat_format, max_length):
    mixture = TrainingMixture(sets, load_prompts(), ChatFormat(chat_format), tokenizer)
    through, straight = (read_examples(mixture, max_length, reader) for reader in (SEQIO, DIRECT))
    assert (through.reader, straight.reader) == (SEQIO, DIRECT)
    assert through.examples == straight.examples
    assert through.counts == straight.counts
    assert all(example.prompt_ids.dtype == np.int32 for example in through.examples)
    plans = [plan_batches(read.examples, BatchConfig(4, max_length, 2, seed=3), 5) for read in (through, straight)]
    for step in range(5):
        first, second = (plan.batch(step) for plan in plans)
        assert first.example_ids == second.example_ids
        for name in FEATURES:
            np.testing.assert_array_equal(first.arrays[name], second.arrays[name])
    return through


@pytest.fixture(scope="module")
def strange_pairs():
    texts = [(a + str(i), b) for i, a in enumerate(STRANGE) for b in STRANGE]
    return [Pair(f"{a}#{number}", a, b, "\0") for number, (a, b) in enumerate(texts)]


@pytest.mark.parametrize("chat_format", ["plain", "inst", "chatml", "llama3"])
@pytest.mark.parametrize("kind", ["m_yx", "m0", "m1"])
def test_every_kind_of_set_in_every_format(byte_tokenizer, strange_pairs, kind, chat_format):
    read = assert_both_ways_equal(sets_of(kind, strange_pairs), byte_tokenizer, chat_format, max_length=900)
    assert read.counts["in"] == len(strange_pairs) // (2 if kind == "m0" else 1)


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
def test_tag_ablations(byte_tokenizer, strange_pairs, tags):
    sets = [PairSet(name, strange_pairs[:9], "h", tags=tags) for name in ("seed", "web")]
    prompt = assert_both_ways_equal(sets, byte_tokenizer, "plain", max_length=400).examples[0].prompt_ids
    prompts = load_prompts()
    assert [text in byte_tokenizer.decode(prompt) for text in (prompts.seed_tag, prompts.web_tag)] == [
        name in tags for name in ("seed", "web")
    ]


def test_long_examples_are_counted_the_same(byte_tokenizer, strange_pairs):
    read = assert_both_ways_equal(sets_of("m1", strange_pairs), byte_tokenizer, "plain", max_length=76)
    assert 0 < read.counts["rejected"]["too_long"] < 64
    assert read.counts["in"] == read.counts["out"] + read.counts["rejected"]["too_long"] == 64
    with pytest.raises(ValueError, match=r"no training example is left of 32 'seed' pairs .rejected: .*32.*above 2"):
        assert_both_ways_equal(sets_of("m1", strange_pairs), byte_tokenizer, "plain", max_length=2)


@pytest.mark.parametrize("kind", ["m_yx", "m0", "m1"])
@pytest.mark.parametrize("name", ["quickstart", "seed_pairs.jsonl", "oasst1_en_validation.trees.jsonl.gz"])
def test_real_seeds(byte_tokenizer_dir, request, name, kind):
    path = SEEDS if name == "quickstart" else request.getfixturevalue("shared_data") / "seed" / name
    pairs = read_pairs(path).pairs
    read = assert_both_ways_equal(sets_of(kind, pairs), load_tokenizer(byte_tokenizer_dir), "chatml", max_length=4096)
    assert 0 < read.counts["out"] <= len(pairs)


@pytest.mark.parametrize("reader", [SEQIO, DIRECT])
def test_what_a_pair_does_not_allow_is_said_plainly(byte_tokenizer, reader):
    sets = [PairSet("seed", [Pair("a", "b", "c", "d")], "h")]
    mixture = TrainingMixture(sets, load_prompts(), ChatFormat("tokenizer"), byte_tokenizer)
    with pytest.raises(ValueError, match="the tokenizer brings no chat template"):
        read_examples(mixture, 100, reader)


def test_an_unknown_reader_is_named(byte_tokenizer):
    mixture = TrainingMixture([], load_prompts(), ChatFormat("plain"), byte_tokenizer)
    with pytest.raises(ValueError, match="'csv'; choose one of seqio, direct"):
        read_examples(mixture, 100, "csv")


def test_the_registry_forgets_what_was_read(byte_tokenizer, strange_pairs):
    import seqio

    sets = sets_of("m1", strange_pairs)
    read_examples(TrainingMixture(sets, load_prompts(), ChatFormat("plain"), byte_tokenizer), 400)
    assert not [name for name in (*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()) if "training" in name]


PROGRAM = """
import sys
{before}
from humpback_jax.data.mixture import PairSet, TrainingMixture
from humpback_jax.data.readers import read_examples
from humpback_jax.data.pairs import Pair
from humpback_jax.chat.formats import ChatFormat
from humpback_jax.prompts.prompts import load_prompts
from humpback_jax.tokenizers import load_tokenizer

assert not {{"tensorflow", "seqio"}} & {{name for name, module in sys.modules.items() if module}}
sets = [PairSet("seed", [Pair("a", "Say e.", "e", "test")], "h", tags=("seed",))]
mixture = TrainingMixture(sets, load_prompts(), ChatFormat("chatml"), load_tokenizer({folder!r}))
read = read_examples(mixture, 200)
print(read.reader, len(read.examples), "tensorflow" in sys.modules and bool(sys.modules["tensorflow"]))
"""


def in_a_process(before, folder):
    command = [sys.executable, "-c", PROGRAM.format(before=before, folder=str(folder))]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@pytest.mark.parametrize("missing", ["tensorflow", "seqio"])
def test_where_tensorflow_is_missing_the_pairs_are_read_directly_and_a_line_says_so(byte_tokenizer_dir, missing):
    ended = in_a_process(f"sys.modules[{missing!r}] = None", byte_tokenizer_dir)
    assert ended.stdout.split()[:2] == ["direct", "1"]
    (line,) = ended.stderr.splitlines()
    assert line.startswith("training pairs are read directly, seqio cannot be imported here (") and missing in line


def test_seqio_reads_quietly_and_takes_no_accelerator(byte_tokenizer_dir):
    before = "import atexit; atexit.register(lambda: print(__import__('tensorflow').config.get_visible_devices()))"
    ended = in_a_process(before, byte_tokenizer_dir)
    first, devices = ended.stdout.splitlines()
    assert first == "seqio 1 True"
    assert "CPU" in devices and "GPU" not in devices
    assert ended.stderr == ""


@pytest.mark.parametrize("reader", [DIRECT])
def test_a_set_that_ends_empty_stops_the_training_and_names_the_setting(byte_tokenizer, reader):
    short = [Pair(f"s{i}", "Say a.", "a", "made") for i in range(3)]
    long = [Pair(f"w{i}", "Say b.", "b" * (100 + i), "made") for i in range(4)]

    def mixture(web):
        sets = [PairSet("seed", short), PairSet("web", web)]
        return TrainingMixture(sets, load_prompts(), ChatFormat("plain"), byte_tokenizer)

    with pytest.raises(ValueError, match=r"left of 4 'web' pairs.*too_long.*raise BatchConfig.row_length above 60"):
        read_examples(mixture(long), 60, reader)
    with pytest.raises(ValueError, match=r"left of 4 'web' pairs.*past_window.*knows 60 positions.*Tokens: up to"):
        read_examples(mixture(long), 400, reader, window=60)
    with pytest.raises(ValueError, match=r"no 'web' pair to train on: the set is empty"):
        read_examples(mixture([]), 400, reader)
    read = read_examples(mixture([*long, short[0]]), 400, reader, window=60)
    assert read.sets["web"] == {"in": 5, "out": 1, "rejected": {"past_window": 4}}
    assert read.counts == {"in": 8, "out": 4, "rejected": {"past_window": 4}}
