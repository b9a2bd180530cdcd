"""Formulas as TeX where the page carries it, otherwise as a line of text."""

import re

from selectolax.lexbor import LexborNode

from humpback_jax.corpus.content.exponents import subscript, superscript
from humpback_jax.corpus.content.visibility import Attributes, read_names

MAX_FORMULA_NODES = 3000  # of MathML; what follows is left out
MAX_FORMULA_DEPTH = 40

_COPIES = 4  # of a formula and spaces, before its script
_LONGEST_ALT = 2000
_LONGEST_EMOJI = 30
_DISPLAY = re.compile(r"\{\s*\\(?:display|text)style\s+(.*)\}", re.DOTALL)
_EMOJI = re.compile(
    "(?:[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u27bf\u2900-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
    "[\ufe0f\u200d\u20e3\U000e0020-\U000e007f]*|[0-9#*]\ufe0f?\u20e3)+"
)
_EMOJI_SOURCE = re.compile(r"emoji|smil(?:ey|ie)s?|emoticon|wp-includes/images/smilies", re.IGNORECASE)
_FORMULA_SOURCE = re.compile(
    r"latex\.php|codecogs|mimetex|mathtex|latex\.cgi|chart\?cht=tx|/math/render|equation_image", re.I
)
_TEX_LOOKS = re.compile(r"[\\^_{}=+<>]|^[A-Za-z]$")


def tex(text: str, *, display: bool = False) -> str:
    """TeX between dollar signs, without the wrapping and the dollars it came with."""
    text = " ".join(text.split())
    if found := _DISPLAY.fullmatch(text):
        text = found.group(1).strip()
    text = (
        text.removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]").strip().strip("$").strip()
    )
    if not text:
        return ""
    return f"$${text}$$" if display else f"${text}$"


def image_text(attributes: Attributes) -> str:
    """What a picture stands for in the text: an emoji or a formula; empty for all others."""
    alt = attributes.get("alt")
    if not alt or not alt.strip():
        return ""
    look = read_names(attributes.get("class") or "")
    source = attributes.get("src") or ""
    if len(alt) <= _LONGEST_EMOJI and (
        look.emoji or _EMOJI.fullmatch(alt.strip()) or _EMOJI_SOURCE.search(source[:300])
    ):
        return alt.strip()
    if len(alt) > _LONGEST_ALT or not _TEX_LOOKS.search(alt):
        return ""
    return tex(alt) if look.formula or _FORMULA_SOURCE.search(source[:300]) else ""


def script_text(attributes: Attributes, node: LexborNode) -> str:
    """TeX of a MathJax script; empty for all others."""
    kind = (attributes.get("type") or "").lower()
    child = node.child
    if not kind.startswith("math/tex") or child is None:
        return ""
    return tex(child.text_content or "", display="mode=display" in kind)


def is_copy_of_script(names: str, node: LexborNode) -> bool:
    """Whether the element shows the formula of the MathJax script right after it."""
    if "mathjax" not in names.lower() and "mjx" not in names.lower():
        return False
    following = node.next
    for _ in range(_COPIES):
        if following is None:
            return False
        if following.tag == "script":
            return (following.attributes.get("type") or "").startswith("math/tex")
        if (following.text_content or "").strip():
            return False
        following = following.next
    return False


def math_text(math: LexborNode) -> str:
    """A <math> element: its TeX if it carries some, otherwise its presentation as a line of text."""
    attributes = math.attributes
    display = attributes.get("display") == "block"
    for name in ("alttext", "data-latex", "data-tex"):
        if (value := attributes.get(name)) and value.strip():
            return tex(value, display=display)
    budget = [MAX_FORMULA_NODES]
    annotation = _annotation(math)
    if annotation:
        return tex(annotation, display=display)
    return " ".join(_row(math, 0, budget).split())


def _annotation(math: LexborNode) -> str:
    semantics = math.child
    while semantics is not None and semantics.tag != "semantics":
        semantics = semantics.next
    child = semantics.child if semantics is not None else None
    while child is not None:
        if child.tag == "annotation" and "tex" in (child.attributes.get("encoding") or "").lower():
            text = child.child
            return (text.text_content or "") if text is not None and text.tag == "-text" else ""
        child = child.next
    return ""


def _row(node: LexborNode, depth: int, budget: list[int]) -> str:
    return "".join(_children(node, depth, budget))


def _children(node: LexborNode, depth: int, budget: list[int]) -> list[str]:
    """The text of each child element, and of text between them."""
    parts: list[str] = []
    child = node.child
    while child is not None and budget[0] > 0 and depth < MAX_FORMULA_DEPTH:
        budget[0] -= 1
        if child.tag == "-text":
            text = (child.text_content or "").strip()
            if text:
                parts.append(text)
        elif child.tag not in ("annotation", "annotation-xml", "-comment", "mphantom", "none", "mprescripts"):
            parts.append(_element(child.tag or "", child, depth + 1, budget))
        child = child.next
    return parts


def _element(tag: str, node: LexborNode, depth: int, budget: list[int]) -> str:
    parts = _children(node, depth, budget)
    whole = "".join(parts)
    first, second, third = (*parts, "", "", "")[:3]
    if tag == "mo":
        return _operator(whole)
    if tag == "mspace":
        return " "
    if tag == "mtext":
        return f" {whole} "
    if tag == "msup":
        return _grouped(first) + superscript(second.strip()) if second.strip() else first
    if tag in ("msub", "munder"):
        return first + subscript(second.strip()) if second.strip() else first
    if tag in ("msubsup", "munderover"):
        return (
            first
            + (subscript(second.strip()) if second.strip() else "")
            + (superscript(third.strip()) if third.strip() else "")
        )
    if tag == "mfrac":
        return f"{_grouped(first)}/{_grouped(second)}"
    if tag == "msqrt":
        return f"√{_grouped(whole)}"
    if tag == "mroot":
        return f"{superscript(second.strip())}√{_grouped(first)}" if second.strip() else f"√{_grouped(first)}"
    if tag == "mfenced":
        opening, closing = node.attributes.get("open", "("), node.attributes.get("close", ")")
        return f"{opening or ''}{', '.join(parts)}{closing or ''}"
    if tag == "mtr":
        return ", ".join(part.strip() for part in parts)
    if tag == "mtable":
        return "; ".join(part.strip() for part in parts)
    return whole


def _operator(sign: str) -> str:
    if sign in (
        "=",
        "<",
        ">",
        "≤",
        "≥",
        "≠",
        "≈",
        "≡",
        "→",
        "⇒",
        "∈",
        "+",
        "−",
        "-",
        "±",
        "×",
        "⋅",
        "∼",
        "∝",
        "↦",
        "⊂",
        "∪",
        "∩",
    ):
        return f" {sign} "
    if sign in ("\u2061", "\u2062", "\u2063", "\u2064"):
        return ""
    return f"{sign} " if sign in (",", ";") else sign


def _grouped(text: str) -> str:
    text = " ".join(text.split())
    return (
        text if len(text) < 2 or text.isalnum() or (text[0] == "(" and text.find(")") == len(text) - 1) else f"({text})"
    )
