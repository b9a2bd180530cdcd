"""An exported model is asked, and stops, as here: chat templates, end ids and tags, seen through transformers."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.files import read_json
from humpback_jax.inference.requests import EngineConfig, Request
from humpback_jax.inference.sampling import SamplingConfig
from humpback_jax.models.config import LlamaConfig
from humpback_jax.models.llama import Llama, init_params
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.stages.model import open_model
from humpback_jax.tokenizers import load_tokenizer
from humpback_jax.weights.convert import export_weights, import_weights
from humpback_jax.weights.model_folder import read_model_card, save_model_folder

SPECIALS = (
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "<|other_end|>",
)
TAGS = Prompts("", "").tagged("", ("seed", "web")).strip()
TURNS = [
    ("Why is the sky blue?", "Because of {scattering}."),
    ("Write code:\n\n  def f(x): {{ x }} {% if %}", "def g():\n\ttab"),
    ('日本語 émoji 🙂 "quoted" \\ back', "naïve café"),
    ("  padded  ", "answer  with  spaces"),
]
ZEPHYR = """\
{% for m in messages %}
{% if m['role'] == 'user' %}
{{ '<|user|>\\n' + m['content'] + eos_token }}
{% elif m['role'] == 'assistant' %}
{{ '<|assistant|>\\n' + m['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
DATED = (
    "{{ bos_token }}{{ 'Today is ' + strftime_now('%d %b %Y') + '\\n' }}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] | trim + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Says nothing of an end of turn, so that training adds the EOS.
ENDLESS = (
    "{% for m in messages %}{{ '### ' + m['role'] + ':\\n' + m['content'] + '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\\n' }}{% endif %}"
)
TEMPLATES = {"zephyr": ZEPHYR, "dated": DATED, "endless": ENDLESS}
FORMATS = ["plain", "inst", "chatml", "llama3", *TEMPLATES]
CONFIG = LlamaConfig("toy", 256 + len(SPECIALS), 32, 2, 4, 2, 8, 48, 512)


def write_tokenizer(folder: pathlib.Path, template: str | None = None, **config: object) -> pathlib.Path:
    """A byte-level tokenizer of bytes and special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocab = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    fields = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template} | config
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    return folder


@functools.cache
def random_params() -> dict:
    """Weights that write visible text."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) * 3, init_params(Llama(CONFIG), jax.random.key(3)))


def trained(folder: pathlib.Path, tokenizer: pathlib.Path, chat_format: str, tags: str | None = TAGS) -> pathlib.Path:
    """A native model folder as finetuning leaves it."""
    save_model_folder(folder, CONFIG, random_params(), tokenizer, source="a test", chat_format=chat_format, tags=tags)
    return folder


def exported(tmp_path: pathlib.Path, name: str, tags: str | None = TAGS, base: str | None = None) -> tuple:
    """(our tokenizer, our chat format, transformers' tokenizer) of a model trained in a format on a base's template."""
    transformers = pytest.importorskip("transformers", reason="compares with transformers")
    template = TEMPLATES.get(name, base)
    folder = write_tokenizer(tmp_path / "tokenizer", template)
    chat_format = "tokenizer" if name in TEMPLATES else name
    model = trained(tmp_path / "model", folder, chat_format, tags)
    export_weights(model, tmp_path / "out", show_progress=False)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    return load_tokenizer(folder), ChatFormat(chat_format), theirs


def their_ids(theirs, *turns: str, generation: bool, **variables: object) -> list[int]:
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return theirs.apply_chat_template(
        messages, add_generation_prompt=generation, tokenize=True, return_dict=False, **variables
    )


@pytest.mark.parametrize("base", [None, ZEPHYR], ids=["base_without", "base_with_another"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_template_of_transformers_makes_our_ids(tmp_path: pathlib.Path, name: str, base: str | None) -> None:
    tokenizer, chat, theirs = exported(tmp_path, name, base=base)
    for user, answer in TURNS:
        tagged = Prompts("", "").tagged(user, ("seed", "web"))
        assert their_ids(theirs, user, generation=True) == chat.prompt_ids(tagged, tokenizer)
        prompt = chat.prompt_ids(user, tokenizer)
        assert their_ids(theirs, user, generation=True, tags="") == prompt
        whole = prompt + chat.answer_ids(answer, tokenizer)
        told = their_ids(theirs, user, answer, generation=False, tags="")
        assert told[: len(whole)] == whole and theirs.decode(told[len(whole) :]).strip() == ""
        alone = their_ids(theirs, user, generation=False, tags="")
        assert prompt[: len(alone)] == alone
        parts = [{"type": "text", "text": user}]
        if name not in TEMPLATES:  # many a template of a base knows texts only
            assert their_ids(theirs, parts, generation=True) == chat.prompt_ids(tagged, tokenizer)


@pytest.mark.parametrize("name", FORMATS)
def test_a_second_question_follows_the_first_answer(tmp_path: pathlib.Path, name: str) -> None:
    tokenizer, chat, theirs = exported(tmp_path, name, tags="")
    ids = their_ids(theirs, "one", "two", "three", generation=True)
    first = chat.prompt_ids("one", tokenizer) + chat.answer_ids("two", tokenizer)
    assert ids[: len(first)] == first
    second = chat.prompt_ids("three", tokenizer)
    assert ids[-8:] == second[-8:]
    assert ids.count(tokenizer.bos_id) == second.count(tokenizer.bos_id)


def test_a_system_turn_stands_before_the_question(tmp_path: pathlib.Path) -> None:
    tokenizer, chat, theirs = exported(tmp_path, "chatml")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, tags="")
    assert ids == chat.prompt_ids("Be brief.\n\nWhy?", tokenizer)


def test_without_tags_nothing_is_appended(tmp_path: pathlib.Path) -> None:
    tokenizer, chat, theirs = exported(tmp_path, "chatml", tags="")
    assert their_ids(theirs, "Why?", generation=True) == chat.prompt_ids("Why?", tokenizer)
    assert "tags" not in theirs.chat_template


@pytest.mark.parametrize("name", ["chatml", "zephyr"])
def test_an_exported_model_comes_back_as_it_was(tmp_path: pathlib.Path, name: str) -> None:
    """Its template's tags are a default of asking, so they are no part of the format, and are not appended twice."""
    tokenizer, chat, theirs = exported(tmp_path, name)
    import_weights(tmp_path / "out", tmp_path / "again")
    again = open_model(tmp_path / "again")
    assert again.chat_format.name == "tokenizer"
    assert list(again.prompt_ids("Why?")) == chat.prompt_ids("Why?", tokenizer)
    assert again.chat_format.answer_ids("So.", again.tokenizer) == chat.answer_ids("So.", tokenizer)
    assert again.stop_ids == chat.stop_ids(tokenizer)
    model = trained(tmp_path / "more", tmp_path / "again" / "tokenizer", "tokenizer", "Another tag.")
    export_weights(model, tmp_path / "twice", show_progress=False)
    reread = type(theirs).from_pretrained(str(tmp_path / "twice"))
    assert their_ids(reread, "Why?", generation=True) == chat.prompt_ids("Why?\n\nAnother tag.", tokenizer)


@pytest.mark.parametrize(
    ("name", "base_ends", "expected"),
    [
        ("chatml", [], ["<|im_end|>", "</s>"]),
        ("llama3", ["</s>"], ["<|eot_id|>", "</s>"]),
        ("plain", [], ["</s>"]),
        ("zephyr", ["</s>", "<|other_end|>"], ["</s>", "<|other_end|>"]),
        ("chatml", ["</s>", "<|other_end|>", "a"], ["<|im_end|>", "</s>", "<|other_end|>"]),
    ],
)
def test_every_place_names_what_ends_an_answer(
    tmp_path: pathlib.Path, name: str, base_ends: list[str], expected: list[str]
) -> None:
    folder = write_tokenizer(tmp_path / "tokenizer", TEMPLATES.get(name))
    plain = load_tokenizer(folder)
    (letter,) = plain.encode("a")  # an ordinary token in a configuration ends nothing
    base = [letter if token == "a" else plain.special_id(token) for token in base_ends]
    if base:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": base, "temperature": 0.5}))
    chat_format = "tokenizer" if name in TEMPLATES else name
    model = trained(tmp_path / "model", folder, chat_format)
    ids = [plain.special_id(token) for token in expected]
    assert list(open_model(model).stop_ids) == ids
    export_weights(model, tmp_path / "out", show_progress=False)
    stated = ids if len(ids) > 1 else ids[0]
    assert read_json(tmp_path / "out" / "config.json")["eos_token_id"] == stated
    generation = read_json(tmp_path / "out" / "generation_config.json")
    assert generation["eos_token_id"] == stated and ("temperature" in generation) == bool(base)
    tokenizer = read_json(tmp_path / "out" / "tokenizer_config.json")
    assert tokenizer["eos_token"] == expected[0]
    assert tokenizer["model_max_length"] == CONFIG.max_position_embeddings


@pytest.mark.parametrize(
    ("name", "ends_with"), [("chatml", "<|im_end|>"), ("plain", "</s>"), ("zephyr", "<|other_end|>")]
)
def test_transformers_stops_where_we_stop(tmp_path: pathlib.Path, name: str, ends_with: str) -> None:
    torch = pytest.importorskip("torch", reason="generates with torch and transformers")
    transformers = pytest.importorskip("transformers", reason="generates with torch and transformers")
    folder = write_tokenizer(tmp_path / "tokenizer", TEMPLATES.get(name))
    end = load_tokenizer(folder).special_id(ends_with)
    if ends_with == "<|other_end|>":
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [257, end]}))
    path = trained(tmp_path / "model", folder, "tokenizer" if name in TEMPLATES else name)
    model = open_model(path)
    prompt = model.prompt_ids(Prompts("", "").tagged("Why?", ("seed", "web")))
    export_weights(path, tmp_path / "before", show_progress=False)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path / "before"), dtype=torch.float32)
    endless = theirs.generate(torch.tensor([prompt]), max_new_tokens=24, min_new_tokens=24, do_sample=False)
    text = endless[0, len(prompt) :].tolist()
    place = next(i for i in range(6, 24) if text[i] not in text[:i])
    _swap_outputs(path, text[place], end)
    engine = open_model(path).engine(EngineConfig(slots=1, prompt_buckets=(128,), max_new_tokens=24), "float32")
    request = Request("q", prompt, 24, SamplingConfig(temperature=0.0))
    (ours,) = engine.generate([request], seed=0, stop_ids=model.stop_ids)
    assert list(ours.token_ids) == text[:place] and not ours.truncated
    export_weights(path, tmp_path / "out", show_progress=False)
    pipe = transformers.pipeline("text-generation", str(tmp_path / "out"), dtype=torch.float32, device="cpu")
    (reply,) = pipe([{"role": "user", "content": "Why?"}], max_new_tokens=24, do_sample=False)
    assert reply["generated_text"][-1]["content"] == model.tokenizer.decode(ours.token_ids)
    written = pipe.model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0].tolist()
    assert written == [*prompt, *ours.token_ids, end]


def _swap_outputs(path: pathlib.Path, one: int, other: int) -> None:
    """Exchanges two tokens in what the model writes: where it wrote `one`, it writes `other`."""
    from humpback_jax.weights.model_folder import load_model_folder

    loaded, card = load_model_folder(path), read_model_card(path)
    kernel = np.array(loaded.params["lm_head"]["kernel"])
    kernel[:, [one, other]] = kernel[:, [other, one]]
    params = loaded.params | {"lm_head": {"kernel": kernel}}
    tokenizer = path.with_name("swapped_tokenizer")
    load_tokenizer(loaded.tokenizer_dir).save(tokenizer)
    save_model_folder(
        path, card.config, params, tokenizer, source="x", chat_format=card.chat_format, tags=card.tags, overwrite=True
    )
