"""A tokenizer for the data tests: bytes, arranged so that id 0 is a letter."""

from collections.abc import Sequence

import pytest

_SPECIALS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


class ByteTokenizer:
    """One id per UTF-8 byte; id 0 is the letter "e"; the special tokens come after the bytes."""

    vocab_size = 256 + len(_SPECIALS)
    bos_id: int | None = 256
    eos_id: int | None = 257
    unk_id: int | None = None
    chat_template: str | None = None
    end_ids: tuple[int, ...] = ()

    def encode(self, text: str) -> list[int]:
        return [(byte - ord("e")) % 256 for byte in text.encode(errors="surrogatepass")]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return bytes((token + ord("e")) % 256 for token in ids if token < 256).decode(errors="replace")

    def special_id(self, token: str) -> int | None:
        return 256 + _SPECIALS.index(token) if token in _SPECIALS else None


@pytest.fixture(scope="session")
def byte_tokenizer() -> ByteTokenizer:
    return ByteTokenizer()
