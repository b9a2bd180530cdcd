"""Shared fixtures: where the optional test data lies, and a tiny model with a byte tokenizer made on the spot."""

import contextlib
import json
import os
import pathlib
import socket
import tempfile

import hypothesis
import pytest

SHARED = pathlib.Path(__file__).resolve().parent.parent.parent / "shared" / "data"
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# Every run sees the same examples, and a machine that is busy may take its time for them.
hypothesis.settings.register_profile(
    "calm", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("calm")


def pytest_configure(config):
    """Workers and the processes that tests start share compiled programs for the length of the run."""
    if not hasattr(config, "workerinput") and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="humpback-compiled-")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real test data beside the checkout; the test skips by name where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the real test data in {SHARED.parent.name}/{SHARED.name} beside the checkout")
    return SHARED


@pytest.fixture
def free_port():
    """A function that gives a port of this machine that nobody listens at, and that is kept for the test.

    The port stays bound, so that no other program gets it; a gRPC server (of `jax.distributed`) binds it all the same.
    """
    with contextlib.ExitStack() as kept:

        def keep():
            holder = kept.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(("", 0))
            return holder.getsockname()[1]

        yield keep


@pytest.fixture(scope="session")
def byte_tokenizer_dir(tmp_path_factory) -> pathlib.Path:
    """A Hugging Face tokenizer with one token per byte; id 0 is a letter, the special tokens come last."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), key=lambda letter: (letter != "e", letter))
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    return folder


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory, byte_tokenizer_dir) -> pathlib.Path:
    """A native model folder: the size `tiny` with random weights, the byte tokenizer, ChatML."""
    import jax

    from humpback_jax.models.config import get_config
    from humpback_jax.models.llama import Llama, init_params
    from humpback_jax.weights.model_folder import save_model_folder

    config = get_config("tiny")
    params = init_params(Llama(config), jax.random.key(0))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model_folder(folder, config, params, byte_tokenizer_dir, source="random", chat_format="chatml")
    return folder
