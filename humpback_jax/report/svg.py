"""A matplotlib SVG as a part of a page with a strict content policy: no style, no colours of its own, no script."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_FONT_SIZE = re.compile(r"([0-9.]+)px")
_DROPPED = {f"{{{SVG}}}metadata", f"{{{SVG}}}style"}


def inline_svg(svg: str, colors: Mapping[str, str], label: str) -> str:
    """The drawing with presentation attributes instead of styles, each hex colour replaced by its CSS variable.

    `label` is what a screen reader says instead of the drawing.
    """
    root = ElementTree.fromstring(svg)
    for parent in root.iter():
        for child in [c for c in parent if c.tag in _DROPPED]:
            parent.remove(child)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", svg))
    for element in root.iter():
        _restyle(element, colors)
        if element.get("id") not in used:
            element.attrib.pop("id", None)
    width, height = (float(root.get(side, "0pt").removesuffix("pt")) for side in ("width", "height"))
    root.attrib.update({"width": f"{width / 0.72:.0f}", "height": f"{height / 0.72:.0f}"})
    root.attrib |= {"role": "img", "aria-label": label}
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _restyle(element: ElementTree.Element, colors: Mapping[str, str]) -> None:
    declarations = [part.partition(":") for part in element.attrib.pop("style", "").split(";") if part.strip()]
    for name, _, value in declarations:
        name, value = name.strip(), value.strip()
        if name == "font":
            size = _FONT_SIZE.search(value)
            name, value = "font-size", size.group(1) if size else "10"
        element.set(name, value)
    for name in ("fill", "stroke"):
        value = element.get(name, "")
        if value.lower() in colors:
            element.set(name, f"var({colors[value.lower()]})")
    if element.tag == f"{{{SVG}}}text" and "fill" not in element.attrib:
        element.set("fill", "var(--ink)")
