"""Shard files of a bulk job are read by the seqio tasks as they lie."""

import seqio

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.pairs import read_pairs
from humpback_jax.data.tasks import register_tasks
from humpback_jax.inference.shards import Shards


def answered(members):
    """Rows as the stages write them: a pair with further keys."""
    return [
        {
            "id": f"q{i}",
            "instruction": f"Say {i}.",
            "output": f" é {i}\n",
            "source": "web",
            "truncated": False,
            "score": 5,
        }
        for i in members
    ]


def test_every_shard_is_a_source_of_a_task(byte_tokenizer, tmp_path):
    Shards(tmp_path, range(10), 4).make([answered])
    found = []
    for number, path in enumerate(sorted(tmp_path.glob("*.jsonl"))):
        names = register_tasks(f"shard{number}", byte_tokenizer, ChatFormat("chatml"), path, path, replace=True)
        seed, augmented = names[0], names[2]
        texts = [pair.instruction for pair in read_pairs(path).pairs]
        for name in (seed, augmented):
            dataset = seqio.TaskRegistry.get(name).get_dataset(None, split="train", shuffle=False)
            rows = list(dataset.as_numpy_iterator())
            decoded = [byte_tokenizer.decode(row["inputs"].tolist()) for row in rows]
            assert all(text in prompt for text, prompt in zip(texts, decoded, strict=True))
        found += [row["id"].decode() for row in rows]
    assert found == [f"q{i}" for i in range(10)]


def test_the_whole_set_is_a_seqio_source_of_lines(tmp_path):
    Shards(tmp_path, range(10), 4).make([answered])
    source = seqio.TextLineDataSource({"train": str(tmp_path / "shard-*.jsonl")})
    assert source.num_input_examples("train") is None
    assert len(source.list_shards("train")) == 3
    lines = list(source.get_dataset("train", shuffle=False).as_numpy_iterator())
    assert b"".join(line + b"\n" for line in lines) == b"".join(
        path.read_bytes() for path in sorted(tmp_path.glob("*.jsonl"))
    )
