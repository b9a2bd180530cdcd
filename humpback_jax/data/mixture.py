"""What a model is trained on, declared once: sets of pairs, and how they become token ids.

`data/tasks.py` registers the same declaration with seqio, for M_yx, M_0 and M_t here and for programs such as t5x;
`data/readers.py` reads it for the trainer.
"""

import dataclasses
from collections.abc import Callable, Sequence

from humpback_jax.chat.formats import ChatFormat
from humpback_jax.data.examples import Example, encode_pair
from humpback_jax.data.pairs import Pair
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class PairSet:
    """Pairs of one kind: where they come from and how they are tagged.

    Attributes:
      name: of the seqio task and in manifests; letters, digits and `_`.
      pairs: the pairs, or a function that reads them when they are asked for.
      sha256: of the file they were read from.
      direction: "forward", or "backward" for M_yx.
      tags: source tags after the instruction: "seed", "web" or both (paper, section 2.4).
    """

    name: str
    pairs: Sequence[Pair] | Callable[[], Sequence[Pair]]
    sha256: str = ""
    direction: str = "forward"
    tags: tuple[str, ...] = ()

    def read(self) -> Sequence[Pair]:
        """The pairs."""
        return self.pairs() if callable(self.pairs) else self.pairs


@dataclasses.dataclass(frozen=True)
class ExampleSet:
    """Examples of a user's own seqio task or mixture, `MODULE:NAME`, and the hash of their ids."""

    name: str
    examples: Sequence[Example]
    sha256: str


@dataclasses.dataclass(frozen=True)
class TrainingMixture:
    """The sets of a training run, and what turns their pairs into ids.

    Attributes:
      sets: our own sets of pairs.
      prompts: the backward template and the texts of the tags.
      chat_format, tokenizer: give the ids.
      own_sets: what a user's own seqio mixtures add.
    """

    sets: Sequence[PairSet]
    prompts: Prompts
    chat_format: ChatFormat
    tokenizer: Tokenizer
    own_sets: Sequence[ExampleSet] = ()

    def encode(self, pair_set: PairSet, pair: Pair) -> Example:
        """The example that a pair of one of the sets becomes."""
        return encode_pair(pair, self.tokenizer, self.chat_format, pair_set.direction, self.prompts, pair_set.tags)

    def hashes(self) -> dict[str, str]:
        """{set: hash of its content}, of every set."""
        ours = {pair_set.name: pair_set.sha256 for pair_set in self.sets}
        return ours | {own_set.name: own_set.sha256 for own_set in self.own_sets}
