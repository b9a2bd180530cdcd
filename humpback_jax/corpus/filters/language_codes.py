"""The languages that can be named, by ISO 639 code: what one of the two identifiers of language.py knows.

Written out, because the model of one of them takes a second to load; a test compares.
"""

from collections.abc import Iterable

_EXACT = """
    ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr
    fuv fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko
    ku ky la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru
    rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue
    zh zu
"""
_FAST = """
    af ar as az ba be bg bn bo br ca ce cs cv cy da de dv el en eo es et eu fa fi fo fr fy ga gd gl gu ha he hi hr
    hu hy id io is it ja jv ka kk km kn ko ku ky la lb lt lv mg mk ml mn mr mt my ne nl no or pa pl ps pt rm ro ru
    sa sc sd si sk sl so sq sr sv sw ta te tg th tk tl tr tt ug uk ur uz vi vo yi zh
"""
EXACT_LANGUAGES, FAST_LANGUAGES = frozenset(_EXACT.split()), frozenset(_FAST.split())
KNOWN_LANGUAGES = EXACT_LANGUAGES | FAST_LANGUAGES


def check_languages(codes: Iterable[str]) -> None:
    """ValueError for a code that no identifier knows, with what was probably meant."""
    for code in codes:
        if code not in KNOWN_LANGUAGES:
            short = code.lower().replace("_", "-").partition("-")[0]
            hint = f"write {short!r}" if short in KNOWN_LANGUAGES else "write ISO 639-1 codes such as 'en'"
            raise ValueError(f"no language has the code {code!r}; {hint}, or () for all languages")
