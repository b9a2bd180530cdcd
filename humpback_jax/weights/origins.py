"""Where what a model knows came from, as far as its page may say it: base, seeds, pages, and their licences."""

import dataclasses
from collections.abc import Mapping

UNKNOWN = "unknown"
# What the hub takes as a licence in a page's YAML; it refuses a page with another word, `other` and a name apart.
_HUB_WORDS = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause
bsl-1.0 cc cc-by-2.0 cc-by-3.0 cc-by-4.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 epl-2.0 eupl-1.1 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1
lgpl-3.0 llama2 llama3 llama3.1 llama3.2 llama3.3 mit mpl-2.0 ms-pl ncsa odbl odc-by openrail openrail++ pddl
postgresql unlicense wtfpl zlib
"""
HUB_LICENCES = frozenset(_HUB_WORDS.split())


@dataclasses.dataclass(frozen=True)
class Origins:
    """What a page says beside the model's own card.

    Attributes:
      pages: names of the inputs that pages came from, without private ones.
      licences: of the base model and of the data, by what they are of.
      licence: of the model itself; None: that of all `licences`, where they are one.
      private: some of the texts are of sources that must not be named.
    """

    pages: tuple[str, ...] = ()
    licences: Mapping[str, str] = dataclasses.field(default_factory=dict)
    licence: str | None = None
    private: bool = False

    @property
    def hub_licence(self) -> dict[str, str]:
        """The licence as YAML fields that the hub understands; empty where none can be said."""
        licence, named = self.licence, set(self.licences.values())
        if licence is None and len(named) == 1 and UNKNOWN not in named:
            licence = named.pop()
        if licence is None:
            return {}
        known = licence.lower()
        return {"license": known} if known in HUB_LICENCES else {"license": "other", "license_name": licence}


NOTHING_SAID = Origins()
