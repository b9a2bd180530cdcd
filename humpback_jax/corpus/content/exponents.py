"""Raised and lowered text: exponents and indices are written as such, marks that point to notes are dropped."""

import re

from humpback_jax.corpus.content.visibility import Attributes

LONGEST_SIGN = 13

_SIGNS = frozenset(
    ("¶", "#", "§", "🔗", "[edit]", "[edit source]", "[bearbeiten]", "[modifier]", "[editar]", "↩", "↩︎", "⚓")
)
_NOTE = re.compile(r"\[[^\]]{1,40}\]|\(\s*\d{1,3}\s*\)")
_NOTE_SIGN = re.compile(r"[*†‡§¶#]{1,4}|[a-z]|[0-9]{1,3}(?:\s*[,;–-]\s*[0-9]{1,3})*|[ivx]{1,5}")
_NOTE_NAMES = re.compile(r"foot-?_?note|noteref|note-?ref|reference|citation|endnote|(?:^|\s)(?:fn|cite|ref)(?:\s|$|-)")
_PLAIN_SUFFIX = re.compile(
    r"st|nd|rd|th|er|re|e|è|ème|eme|ère|de|o|a|os|as|º|ª|h|m|min|tm|sm|r|c|®|©|™|℠|\W?tm\W?|me|mo|le|lle|nos?|bis|ter",
    re.IGNORECASE,
)
# What an exponent may stand on: a unit or a symbol of one or two letters, or a function. A longer word has a note.
_BASE = re.compile(
    r"(?:^|[^a-zA-Z])(?:[a-zA-Zα-ωΑ-Ω]{1,2}|mol|mm|sec|feet|foot|inch|inches|yards?|miles?|met(?:er|re)s?|sin|cos|tan|sec|cot"
    r"|log|exp|[kMGmcdµn](?:Hz|Pa))$"
)
_EXPONENT = re.compile(r"(?!.*[^\W\d_]{4})[\w+\-−–=*∗/·().,′^]{1,16}")
_RAISED = str.maketrans("0123456789+-−–=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−–=()aeoxhklmnpstiruvj", "₀₁₂₃₄₅₆₇₈₉₊₋₋₋₌₍₎ₐₑₒₓₕₖₗₘₙₚₛₜᵢᵣᵤᵥⱼ")
_HAS_RAISED = re.compile(r"[0-9+\-−–=()ni]+")
_HAS_LOWERED = re.compile(r"[0-9+\-−–=()]+|[aeoxhklmnpstiruvj]")
_LONGEST_INDEX = 12


def is_sign(text: str) -> bool:
    """Whether the text of a link only marks its place."""
    return not text[:1].isalnum() and text.lower() in _SIGNS


def raised(tag: str, text: str, before: str, *, linked: bool, attributes: Attributes | None) -> str:
    """What to write for the text of a <sup> or <sub>.

    Args:
      tag: `sup` or `sub`.
      text: its text, on one line.
      before: the end of the text before it.
      linked: whether the text holds a link.
      attributes: of the element.
    """
    if not text:
        return ""
    if tag == "sub":
        return _index(text)
    names = (
        f"{attributes.get('class') or ''} {attributes.get('id') or ''} {attributes.get('role') or ''}"
        if attributes
        else ""
    )
    if _NOTE.fullmatch(text) or text.lower() in _SIGNS:
        return ""
    if _NOTE_SIGN.fullmatch(text) and (linked or _NOTE_NAMES.search(names.lower())):
        return ""
    if _is_plain_suffix(text, before):
        return text
    packed = text.replace(" ", "")
    if _follows_a_base(before) or text[0] in "-−–+":
        return superscript(packed) if _EXPONENT.fullmatch(packed) else text
    if text.isdecimal() and not before[-1:].strip():
        return superscript(text)  # of an isotope, or of a note itself
    if text.isdecimal() and len(text) <= 2 and before[-1:].strip() and not before[-1:].isdigit():
        return ""  # a number beside a word is the number of a note
    return text


def _is_plain_suffix(text: str, before: str) -> bool:
    """Ordinals, abbreviations and trademark signs."""
    if not _PLAIN_SUFFIX.fullmatch(text):
        return len(text) > 1 and text.isalpha() and before[-2:].isalpha() and len(before) > 1
    # After a letter of its own, m or n is an exponent; after a number, "e" and "th" make it an ordinal.
    return len(text) > 1 or not text.isalpha() or before[-1:].isdigit() or before[-2:-1].isalpha()


def _follows_a_base(before: str) -> bool:
    last = before[-1:]
    if not last.strip():
        return False
    return last.isdigit() or last in ")]}|²³′" or bool(_BASE.search(before))


def superscript(text: str) -> str:
    """Unicode superscripts where there are some for all characters, otherwise after a ^."""
    if _HAS_RAISED.fullmatch(text):
        return text.translate(_RAISED)
    return f"^{text}" if text.isalnum() or (text[0] == "(" and text[-1] == ")") else f"^({text})"


def subscript(text: str) -> str:
    """Unicode subscripts for numbers and single letters, otherwise after a _."""
    if _HAS_LOWERED.fullmatch(text):
        return text.translate(_LOWERED)
    return f"_{text}" if text.isalnum() or (text[0] == "(" and text[-1] == ")") else f"_({text})"


def _index(text: str) -> str:
    return text if len(text) > _LONGEST_INDEX or " " in text else subscript(text)
