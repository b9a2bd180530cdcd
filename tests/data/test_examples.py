"""Pairs to examples: what is prompt, what is learned, what is left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.examples import supervised_examples
from humpback_jax.data.packing import packed_rows
from humpback_jax.data.pairs import Pair
from humpback_jax.prompts.prompts import SEED_TAG, Prompts, load_prompts

PAIRS = [Pair("a", "Name a colour.", "Blue.", "test"), Pair("b", "Count.", "eee 1 2 3", "test")]


def test_forward_examples_are_tagged_and_learn_the_output(byte_tokenizer):
    examples, counts = supervised_examples(PAIRS, byte_tokenizer, ChatFormat("inst"), tags=["seed"])
    assert counts == {"read": 2, "kept": 2, "rejected": {}}
    assert [example.id for example in examples] == ["a", "b"]
    assert byte_tokenizer.decode(examples[0].prompt_ids) == f"[INST] Name a colour.\n\n{SEED_TAG} [/INST]"
    assert byte_tokenizer.decode(examples[0].answer_ids) == " Blue."
    assert examples[0].answer_ids[-1] == byte_tokenizer.eos_id
    assert examples[0].prompt_ids[0] == byte_tokenizer.bos_id


def test_backward_examples_learn_the_instruction(byte_tokenizer):
    prompts = Prompts(backward_template="Asked what? {output}", rating_template="")
    examples, _ = supervised_examples(PAIRS, byte_tokenizer, ChatFormat("chatml"), "backward", prompts)
    assert byte_tokenizer.decode(examples[0].prompt_ids) == "user\nAsked what? Blue.\nassistant\n"
    assert byte_tokenizer.decode(examples[0].answer_ids) == "Name a colour."
    assert examples[0].answer_ids[-1] == byte_tokenizer.special_id("<|im_end|>")


def test_the_packages_own_backward_prompt_is_the_default(byte_tokenizer):
    examples, _ = supervised_examples(PAIRS, byte_tokenizer, ChatFormat("plain"), "backward")
    assert load_prompts().backward("Blue.") in byte_tokenizer.decode(examples[0].prompt_ids)


def test_examples_that_do_not_fit_are_counted_and_never_cut(byte_tokenizer):
    whole, _ = supervised_examples(PAIRS, byte_tokenizer, ChatFormat("plain"))
    lengths = [example.num_positions for example in whole]
    kept, counts = supervised_examples(PAIRS, byte_tokenizer, ChatFormat("plain"), max_length=min(lengths))
    assert kept == [whole[lengths.index(min(lengths))]]
    assert counts == {"read": 2, "kept": 1, "rejected": {"too_long": 1}}
    assert packed_rows(kept, min(lengths))["decoder_segment_ids"].all()


def test_bad_directions_and_tags(byte_tokenizer):
    with pytest.raises(ValueError, match="'sideways'; choose one of forward, backward"):
        supervised_examples(PAIRS, byte_tokenizer, ChatFormat("plain"), "sideways")
    with pytest.raises(ValueError, match=r"no tags.*backward\.txt"):
        supervised_examples(PAIRS, byte_tokenizer, ChatFormat("plain"), "backward", tags=["seed"])


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.tuples(st.text(alphabet="ef \n<|im_end|>"), st.text(alphabet="ef{")), min_size=1, max_size=6),
    name=st.sampled_from(["plain", "inst", "chatml", "llama3"]),
    direction=st.sampled_from(["forward", "backward"]),
)
def test_loss_is_zero_on_every_prompt_token_and_one_on_every_answer_token(byte_tokenizer, texts, name, direction):
    pairs = [Pair(str(index), *text, "test") for index, text in enumerate(texts)]
    examples, _ = supervised_examples(pairs, byte_tokenizer, ChatFormat(name), direction)
    features = packed_rows(examples, 2048)
    segments, weights, targets = (
        features[f"decoder_{name}"] for name in ("segment_ids", "loss_weights", "target_tokens")
    )
    assert set(np.unique(weights)) <= {0.0, 1.0}
    supervised = []
    for row in range(len(segments)):
        for segment in range(1, segments[row].max() + 1):
            here = segments[row] == segment
            supervised.append(
                (targets[row][here & (weights[row] > 0)].tolist(), int((here & (weights[row] == 0)).sum()))
            )
    expected = [(example.answer_ids.tolist(), len(example.prompt_ids) - 1) for example in examples]
    assert sorted(supervised) == sorted(expected)
