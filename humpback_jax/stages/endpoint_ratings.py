"""Ratings that a model behind an endpoint writes: every reply is journalled, so that none is paid for twice."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from etils import epath

from humpback_jax.endpoints import Endpoint, EndpointConfig, Journal, ask_all
from humpback_jax.inference.engine import Engine
from humpback_jax.prompts.prompts import Prompts
from humpback_jax.run_files import REPLIES
from humpback_jax.runtime.processes import process_index
from humpback_jax.stages.items import Prompted
from humpback_jax.stages.jobs import Advance
from humpback_jax.stages.model import ModelHandle


@dataclasses.dataclass(frozen=True)
class EndpointRatings:
    """Asks an endpoint to rate pairs; nothing runs on the engine.

    Attributes:
      model: of the job's engines, for what else is read.
      prompts: the rubric.
      endpoint: who rates.
      journal: its replies so far.
    """

    model: ModelHandle
    prompts: Prompts
    endpoint: Endpoint
    journal: Journal

    def identity(self) -> dict[str, Any]:
        """Who rates."""
        return {"endpoint": self.endpoint.config.deciding} | self.prompts.rubric.how_read

    def compile(self, engine: Engine, prompt_lengths: Sequence[int]) -> None:
        """Nothing."""

    def run(self, engine: Engine, items: Sequence[Prompted], advance: Advance) -> list[dict]:
        """Rows with `score`, None where no reply was a rating, and the `rationale`.

        Raises:
          OSError: the endpoint gave up; what it replied is kept.
          ValueError: the first questions fail alike.
        """
        questions = {item.id: self.prompts.rating(*item.pair) for item in items}
        answers = ask_all(self.endpoint, questions, self.journal, advance)
        return [
            {"id": name, "score": answer.verdict, "parsed": True, "rationale": answer.raw[-1] if answer.raw else ""}
            for name, answer in answers.items()
        ]


def endpoint_ratings(
    model: ModelHandle, prompts: Prompts, config: EndpointConfig, folder: epath.Path | None
) -> EndpointRatings:
    """The job of this process.

    Raises:
      ValueError: there is no folder for the replies, or the key is not set.
    """
    if folder is None:
        raise ValueError("what an endpoint replies is paid for and must be kept; give a folder, as a recipe has one")
    journal = Journal(folder / REPLIES.format(i=process_index()))
    return EndpointRatings(model, prompts, Endpoint(config, prompts.rubric.parse), journal)
