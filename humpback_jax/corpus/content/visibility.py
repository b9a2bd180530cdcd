"""What an element's attributes say about how it looks: hidden, bold, large, struck out, a box of its own."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Set

from humpback_jax.corpus.content.lists import parse_integer

Attributes = Mapping[str, str | None]

NORMAL_SIZE = 3  # of <font size>, 1 to 7

# Text for screen readers only, and links over the navigation.
_VISUALLY_HIDDEN = re.compile(
    r"(?<![a-z0-9])(?<!not-)(?:visually[-_]?hidden|sr[-_]?only|screen[-_]?reader(?:s|[-_]?(?:text|only))?|off[-_]?screen"
    r"|(?:hidden|hide)[-_]?visually|element[-_]invisible|show-for-sr|(?:a11y|accessib(?:le|ility)|assistive)"
    r"[-_]?(?:hidden|hide|text|only)|skip[-_]?(?:link|to|nav)[a-z]*)(?![a-z0-9])"
)
_HIDDEN_CLASS = re.compile(
    r"(?:^|\s)(?:hidden|is-hidden|hide|d-none|uk-hidden|invisible|nodisplay|displaynone)(?:\s|$)"
)
_SHOWN_SOMETIMES = re.compile(r":|d-[a-z]+-(?:block|flex|grid|inline|table)|(?:^|\s)d-(?:block|flex|grid|inline)")
# Nearly all classes hold none of these, and they need no closer look.
_REMARKABLE = re.compile(
    r"[^a-z0-9](?:hid|sr[-_o]|screen|invisib|show-for-sr|a11y|acces|assist|skip|d-none|display|edit|section"
    r"|cite|math|mw-|line|ln|gutter|blob|tw?emoji|emoji|smil|emotic|latex|tex|mjx|mime|equation|formula|select|uk-hid"
    r"|visually|off-?_?screen|element-inv|nodisp|is-hid|unsel|no-?sel|hljs-ln|rouge|code|token|view-line"
    r"|react|row-line|cl-line|rp(?![a-z]))"
)
# Collapsed parts of a page, opened with a click.
_PANEL = re.compile(
    r"accordion|collaps|tab-?_?(?:pane|panel|content|body)|panel|faq|answer|toggle|expand|spoiler|disclosure|read-?more"
)
_POPUP = re.compile(
    r"menu|nav|dropdown|drop-down|modal|popup|pop-up|cookie|consent|search|overlay|lightbox|tooltip|login"
)
_POPUP_ROLES = frozenset(
    (
        "dialog",
        "alertdialog",
        "menu",
        "menubar",
        "listbox",
        "navigation",
        "search",
        "tooltip",
        "banner",
        "alert",
        "status",
    )
)
_POPUP_TAGS = frozenset(("nav", "dialog", "menu", "form", "ul", "header", "footer", "select", "span", "a", "i", "img"))

_DROPPED = re.compile(
    r"editsection|edit-section|section-edit|cite-backlink|cite_backlink|mathjax_preview|mw-jump|(?:^|\s)rp(?:\s|$)"
)
_GUTTER = re.compile(
    r"(?<![a-z0-9])(?:line[-_]?no(?:s|de)?(?:div)?|line[-_]?num(?:ber)?s?|ln[-_]?num(?:ber)?s?|gutter|blob-num|rouge-gutter"
    r"|hljs-ln-(?:n|numbers?)|select-none|unselectable|no-?select|linenos?|lnt?|code-line-number|line-numbers-rows)(?![a-z0-9])"
)
_LINE = re.compile(
    r"(?:^|\s|[-_])(?:code-?line|token-line|view-line|line|cl-line|hljs-ln-line|row-line|react-code-line[a-z-]*)(?:\s|$)"
)
_EMOJI = re.compile(r"emoji|smiley|smilie|emoticon")
_FORMULA = re.compile(
    r"mathjax|mjx|(?<![a-z])(?:latex|tex|math|mathtex|mwe-math[a-z-]*|equation|formula|mimetex)(?![a-z])"
)

_LANGUAGE = re.compile(
    r"(?:^|\s)(?:lang(?:uage)?|highlight-(?:source|text)|highlight|brush|sourcecode|src)[-:]\s*([a-z][a-z0-9+#]*)"
)
_NO_LANGUAGES = frozenset(("default", "none", "text", "plaintext", "plain", "nohighlight", "highlight", "code"))

_NAMING = ("id", "itemprop", "data-testid")
_NAMED_BY = frozenset(_NAMING)

_DECLARATION = re.compile(r"([a-z-]+)\s*:\s*([^;]*)")
_FAR_OFF = re.compile(r"-\s*[0-9]{3,}(?:\.[0-9]*)?(?:px|em|rem|pt|%|vw)?|-[1-9][0-9](?:em|rem)")
_ZERO = re.compile(r"0*\.?0+(?:px|em|rem|pt|%)?")
_LENGTH = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,4})?)(px|pt|em|rem|%)")
_UNIT_IN_PX = {"px": 1.0, "pt": 4 / 3, "em": 16.0, "rem": 16.0, "%": 0.16}
_NAMED_SIZES = {"large": 4, "larger": 4, "x-large": 5, "xx-large": 6, "xxx-large": 7, "small": 2, "smaller": 2}
_SIZES_IN_PX = ((32, 6), (24, 5), (18, 4), (14, 3), (12, 2))


@dataclasses.dataclass(frozen=True, slots=True)
class Style:
    """What matters of a style attribute.

    Attributes:
      gone: takes no space (display: none); collapsed panels are hidden like this.
      unseen: takes space or stands on the page but nobody can read it.
      apart: `block` for a box on lines of its own, `inline` for a box in a line, empty if it does not say.
      bold, struck: as named.
      size: of the font on the scale of <font size>; None if it does not say.
      unselectable: cannot be selected, as line numbers beside code.
    """

    gone: bool = False
    unseen: bool = False
    apart: str = ""
    bold: bool = False
    struck: bool = False
    size: int | None = None
    unselectable: bool = False


@functools.lru_cache(maxsize=4096)
def read_style(style: str) -> Style:
    """Parses a style attribute; what it does not understand it leaves out."""
    values = {name: value.strip() for name, value in _DECLARATION.findall(style[:2000].lower())}
    display = values.get("display", "")
    placed = values.get("position") in ("absolute", "fixed")
    weight = values.get("font-weight", "")
    return Style(
        gone=display.startswith("none"),
        unseen=values.get("visibility", "").startswith(("hidden", "collapse"))
        or bool(_ZERO.fullmatch(_value(values, "opacity")))
        or bool(_ZERO.fullmatch(_value(values, "font-size")))
        or bool(_FAR_OFF.match(_value(values, "text-indent")))
        or (placed and any(_FAR_OFF.match(_value(values, side)) for side in ("left", "top", "right", "bottom")))
        or (placed and _is_clipped_away(values))
        or _has_no_room(values),
        apart=_apart(display, values.get("float", "")),
        bold=weight.startswith("bold") or (weight[:3].isdigit() and int(weight[:3]) >= 600),
        struck="line-through" in values.get("text-decoration", values.get("text-decoration-line", "")),
        size=_size(_value(values, "font-size")),
        unselectable="none" in (_value(values, "user-select"), _value(values, "-webkit-user-select")),
    )


def _value(values: Mapping[str, str], name: str) -> str:
    return values.get(name, "").replace("!important", "").strip()


def _is_clipped_away(values: Mapping[str, str]) -> bool:
    numbers = [float(number) for number in re.findall(r"[0-9]{1,6}", values.get("clip", "")) if number]
    if values.get("clip", "").startswith("rect") and numbers:
        return max(numbers) <= 1
    return bool(re.match(r"inset\(\s*(?:50|100)%", values.get("clip-path", "")))


def _has_no_room(values: Mapping[str, str]) -> bool:
    """Height and width of a pixel at most, and what does not fit is cut off."""
    if not values.get("overflow", "").startswith(("hidden", "clip")):
        return False
    return all(re.fullmatch(r"[01](?:px)?", _value(values, side)) for side in ("width", "height"))


def _apart(display: str, floats: str) -> str:
    if display.startswith("inline-"):
        return "inline"
    if display.startswith(("block", "flex", "grid", "table", "list-item", "flow-root")):
        return "block"
    return "inline" if floats.startswith(("left", "right")) else ""


def _size(value: str) -> int | None:
    if value in _NAMED_SIZES:
        return _NAMED_SIZES[value]
    length = _LENGTH.fullmatch(value)
    if not length:
        return None
    pixels = float(length.group(1)) * _UNIT_IN_PX[length.group(2)]
    return next((size for least, size in _SIZES_IN_PX if pixels >= least), 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """What the usual names of classes say.

    Attributes:
      gone, unseen: as of Style.
      dropped: signs that serve to edit or to jump, such as "[edit]" of a wiki.
      gutter: holds line numbers, if it holds nothing but numbers.
      line: a line of code.
      emoji: a picture that stands for its alternative text.
      formula: a picture of a formula, whose alternative text is TeX.
    """

    gone: bool = False
    unseen: bool = False
    dropped: bool = False
    gutter: bool = False
    line: bool = False
    emoji: bool = False
    formula: bool = False


UNREMARKABLE = Names()


@functools.lru_cache(maxsize=32_768)
def read_names(names: str) -> Names:
    """Reads a class attribute; UNREMARKABLE itself where its names say nothing."""
    names = names[:1000].lower()
    if not _REMARKABLE.search(f" {names}"):  # names are too many for a look at each to be remembered
        return UNREMARKABLE
    looks = [look for name in names.split() if (look := _read_name(name)) is not UNREMARKABLE]
    if not looks:
        return UNREMARKABLE
    return Names(
        gone=any(look.gone for look in looks) and not _SHOWN_SOMETIMES.search(names),
        unseen=any(look.unseen for look in looks),
        dropped=any(look.dropped for look in looks),
        gutter=any(look.gutter for look in looks),
        line=any(look.line for look in looks),
        emoji=any(look.emoji for look in looks),
        formula=any(look.formula for look in looks),
    )


@functools.lru_cache(maxsize=16_384)  # remarkable ones are few, and stand beside others each time
def _read_name(name: str) -> Names:
    look = Names(
        gone=bool(_HIDDEN_CLASS.search(name)),
        unseen=bool(_VISUALLY_HIDDEN.search(name)),
        dropped=bool(_DROPPED.search(name)),
        gutter=bool(_GUTTER.search(name)),
        line=bool(_LINE.search(name)),
        emoji=bool(_EMOJI.search(name)),
        formula=bool(_FORMULA.search(name)),
    )
    return UNREMARKABLE if look == UNREMARKABLE else look


def is_hidden(tag: str, attributes: Attributes, controlled: Set[str]) -> bool:
    """Whether nobody sees the element. A collapsed panel is seen by all who click on its title: it is not hidden.

    Args:
      tag: lower-case tag.
      attributes: of the element.
      controlled: ids of elements that another element says it opens and closes (aria-controls).
    """
    names = attributes.get("class")
    gone = attributes.get("aria-hidden") == "true" or ("hidden" in attributes and attributes["hidden"] != "until-found")
    if names:
        look = read_names(names)
        if look.formula and tag == "img" and "hidden" not in attributes:
            gone = False  # kept from screen readers, which read a copy of the formula that nobody sees
        if look.unseen or look.dropped:
            return True
        gone = gone or look.gone
    style = attributes.get("style")
    if style:
        parsed = read_style(style)
        if parsed.unseen:
            return True
        gone = gone or parsed.gone
    return gone and not _is_panel(tag, attributes, controlled)


def _is_panel(tag: str, attributes: Attributes, controlled: Set[str]) -> bool:
    if is_popup(tag, attributes):
        return False
    name = attributes.get("id") or ""
    if attributes.get("role") == "tabpanel" or name in controlled:
        return True
    return bool(_PANEL.search(f"{attributes.get('class') or ''} {name}".lower()))


def is_popup(tag: str, attributes: Attributes) -> bool:
    """Whether a hidden element is one that opens over the page or lists links, by its tag, role and names."""
    if tag in _POPUP_TAGS or attributes.get("role") in _POPUP_ROLES:
        return True
    return bool(_POPUP.search(f"{attributes.get('class') or ''} {attributes.get('id') or ''}".lower()))


def role_of(attributes: Attributes) -> str:
    """The first ARIA role, lower-case."""
    value = attributes.get("role")
    return value.split()[0].lower() if value and value.strip() else ""


def names_of(attributes: Attributes) -> str:
    """Class, id, itemprop and data-testid as one lower-case text."""
    names = attributes.get("class") or ""
    if not _NAMED_BY.isdisjoint(attributes):
        for key in _NAMING:
            if key in attributes:
                names = f"{names} {attributes[key] or ''}"
    return _single_spaced(names) if names else ""


@functools.lru_cache(maxsize=16_384)
def _single_spaced(names: str) -> str:
    return " ".join(names.lower().split())


def language_of(attributes: Attributes | None) -> str:
    """The programming language that data-lang or a class like `language-python` or `brush: python` names."""
    if not attributes:
        return ""
    named = attributes.get("data-lang") or attributes.get("data-language")
    return named.lower() if named and named.isalnum() else language_of_names(attributes.get("class") or "")


def language_of_names(names: str) -> str:
    """The programming language that classes name; empty if none does."""
    found = _LANGUAGE.search(names.lower()) if names else None
    return found.group(1) if found and found.group(1) not in _NO_LANGUAGES else ""


def font_size_of(attributes: Attributes | None) -> int | None:
    """What <font size> says, 1 to 7; None if nothing."""
    value = (attributes.get("size") or "").strip() if attributes else ""
    if not value:
        return None
    number = parse_integer(value, 0)
    return min(max(3 + number if value[0] in "+-" else number, 1), 7) if number else None
