"""Configurations of foreign files: nothing is guessed, and every error names the file and the field."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fields:
    """The fields of a configuration, and what to call them in messages: `where`, then `prefix` before every name."""

    values: Mapping[str, Any]
    where: str
    prefix: str = ""

    def needed(self, key: str) -> Any:
        """The field's value, which is not None."""
        if self.values.get(key) is None:
            raise ValueError(f"{self.where}: {self.prefix}{key} is missing; without it the model cannot be rebuilt")
        return self.values[key]

    def whole(self, key: str) -> int:
        """The field's value, a whole number."""
        value = self.needed(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{self.where}: {self.prefix}{key} must be one whole number, found {value!r}")
        return value

    def refuse_unless(self, allowed: Mapping[str, tuple[Any, ...]], advice: str) -> None:
        """Raises ValueError for the first field that has another value than those allowed; a missing one is None."""
        for key, values in allowed.items():
            if self.values.get(key) not in values:
                raise ValueError(
                    f"{self.where}: {self.prefix}{key} is {self.values.get(key)!r}, expected {values[-1]!r}; {advice}"
                )

    def sizes(self, names: Mapping[str, str]) -> dict[str, Any]:
        """The sizes of a `LlamaConfig`, read under foreign `names`.

        A file may leave out the width of a head (then the heads share the width of the model) and the number of
        key/value heads (then every head has keys of its own).
        """
        width, heads = self.whole(names["emb_dim"]), self.whole(names["num_heads"])
        present = {key: value for key, value in self.values.items() if value is not None}
        if names["head_dim"] not in present and width % heads:
            raise ValueError(
                f"{self.where}: {names['emb_dim']} {width} is not a multiple of {names['num_heads']} {heads}"
            )
        defaults = {names["head_dim"]: width // heads, names["num_kv_heads"]: heads}
        complete = dataclasses.replace(self, values=defaults | present)
        return {ours: complete.whole(theirs) for ours, theirs in names.items()}
