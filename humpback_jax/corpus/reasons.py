"""Plain words for everything that the corpus stage counts: what a reader of a report needs to know about a reason.

`{min_chars}` and the like stand for the settings of a run.
"""

import collections
from collections.abc import Mapping
from typing import Any

# Why a section became no segment.
SEGMENT_REASONS: dict[str, tuple[str, str]] = {
    "too_short": ("Too short", "fewer than {min_chars} characters"),
    "too_long": ("Too long", "more than {max_chars} characters"),
    "empty_header": ("No header", "the section has no title"),
    "uppercase_header": ("Header in capitals", "the title is written in capitals only"),
    "navigation_header": ("Title of a menu", "the title belongs to a menu or a footer, not to a text"),
    "repetitive": ("Repetitive", "two of its sentences say nearly the same"),
    "nested": ("Inside another", "a section around or inside it was kept, and one of them is enough"),
    "other_language": ("Another language", "it is not written in {languages}"),
    "uncertain_language": ("Hardly language", "no language is likely: numbers, names or code without sentences"),
    "link_density": ("Mostly links", "more than {max_link_density} of its characters are inside links"),
    "symbol_density": ("Mostly symbols", "more than {max_symbol_density} of its characters are symbols"),
    "only_lists": ("Only a list", "more than {max_list_share} of its characters are list items"),
    "low_answer_likeness": ("Unlike an answer", "less like the seed answers than {min_answer_likeness}"),
    "blocked_domain": ("Blocked domain", "its site is on the list of blocked domains"),
    "blocked_phrase": ("Blocked phrase", "it has a phrase that is on the list of blocked phrases"),
    "contaminated": ("Evaluation prompt", "it holds a prompt of an evaluation set"),
    "truncated": ("Cut off", "its page was cut short before the section ended"),
    "duplicate": ("Duplicate", "the same text was seen before"),
    "near_duplicate": ("Near-duplicate", "a kept segment is at least {near_duplicates} like it"),
    "repeated_on_site": ("Repeated on a site", "too little is left without what stands on {repeated_on_pages} pages"),
    "over_domain_cap": ("Domain is full", "its site gives at most {max_per_domain} segments"),
    "not_sampled": ("Not drawn", "the run keeps {num_segments} segments, drawn uniformly over sites"),
    "over_max_segments": ("Over the limit", "the run takes only the first {max_segments} segments"),
    "timeout": ("Took too long", "its page was not done within the time that a record may take"),
}

# Why a record of an archive, or a file, is no page.
RECORD_REASONS: dict[str, tuple[str, str]] = {
    "unknown_file": ("Unknown file", "neither an archive nor a page, by its content"),
    "empty_file": ("Empty file", "the file has no bytes"),
    "broken_link": ("Broken link", "a link to a file that is not there"),
    "looping_link": ("Looping link", "a link back to a folder that holds it"),
    "repeated_link": ("Repeated link", "a link to a folder that is read already"),
    "unreadable_folder": ("Unreadable folder", "the folder could not be listed"),
    "not_a_file": ("Not a file", "neither a file nor a folder"),
    "missing_file": ("Missing file", "a list names a file that is not there"),
    "bad_index_row": ("Bad row of an index", "it does not name a file with offset and length"),
    "read_error": ("Read error", "the file system or the server would not give the file"),
    "expands_too_far": ("Expands too far", "content out of all proportion to its compressed bytes"),
    "damaged_file": ("Damaged file", "the table or its compression is damaged from here on"),
    "damaged_zip": ("Damaged zip file", "the zip file or an entry of it could not be read"),
    "unknown_columns": ("Unknown columns", "no column of the row is known to hold a page"),
    "bad_row": ("Bad row", "a line that is no JSON object with text"),
    "not_a_arc": ("Not an ARC", "the file is named like an archive and is none"),
    "damaged_arc": ("Damaged archive", "bytes of the archive that are no record"),
    "truncated_arc": ("Archive cut off", "the archive ends inside a record"),
    "not_a_warc": ("Not a WARC", "the file is named like an archive and is none"),
    "damaged_warc": ("Damaged archive", "bytes of the archive that are no record"),
    "truncated_warc": ("Archive cut off", "the archive ends inside a record"),
    "not_html": ("Not HTML", "an image, a script or another kind of content"),
    "not_a_page": ("Not a page", "a record about the crawl, not a page"),
    "http_status": ("No page there", "the server answered with an error or a redirect"),
    "bad_http": ("Bad HTTP", "the record does not hold an HTTP answer"),
    "bad_encoding": ("Bad compression", "the content could not be unpacked"),
    "wrong_charset": ("Wrong charset", "the bytes are no text in any charset that fits"),
    "page_too_large": ("Page too large", "more than {max_page_bytes} bytes"),
    "empty_body": ("Empty page", "the record has no content"),
    "timeout": ("Took too long", "the record was not done within the time that one may take"),
    "crashed": ("Crashed", "the process that read the record ended"),
    "reading_failed": ("Not readable", "the reader failed; the rest of the file is left out"),
    "cutting_failed": ("Not cut", "the page made the program fail"),
}

# Why a block of a page is no content.
BLOCK_REASONS: dict[str, tuple[str, str]] = {
    "navigation": ("Navigation", "a menu, a way back, or links to other pages"),
    "link_list": ("Links", "hardly anything but links"),
    "related_links": ("Related links", "links to other articles"),
    "site_header": ("Site header", "the head of the site, the same on all its pages"),
    "site_name": ("Site name", "the name or the logo of the site"),
    "footer": ("Footer", "the foot of the site"),
    "sidebar": ("Sidebar", "beside the text, not a part of it"),
    "byline": ("Byline", "who wrote it, and when"),
    "author_box": ("Author box", "about the author"),
    "share_bar": ("Share bar", "buttons to share or follow"),
    "comments": ("Comments", "what readers wrote below, or the form for it"),
    "reviews": ("Reviews", "what customers wrote"),
    "newsletter": ("Newsletter", "an invitation to subscribe"),
    "cookie_notice": ("Cookie notice", "about cookies and consent"),
    "advertisement": ("Advertisement", "bought by somebody else"),
    "paywall": ("Paywall", "an invitation to pay or to sign in"),
    "popup": ("Dialog", "a box over the page"),
    "form": ("Form", "fields to fill in"),
    "search": ("Search", "a search box and what belongs to it"),
    "toolbar": ("Toolbar", "buttons of the page"),
    "caption": ("Caption", "words under a picture"),
    "tags": ("Tags", "a list of keywords"),
    "references": ("References", "a list of sources"),
    "gallery": ("Gallery", "a row of pictures"),
    "link": ("Link alone", "one link and nothing else"),
    "headlines": ("Headlines", "titles of other pages"),
    "side_column": ("Side column", "beside the stretch that holds the text"),
    "outside_main": ("Outside the text", "around the part of the page that says it is the main one"),
    "before_text": ("Before the text", "between the head of the page and its text"),
    "after_text": ("After the text", "between the text and the foot of the page"),
    "empty_section": ("Bare title", "a title with nothing left below it"),
    "navigation_header": ("Under a menu's title", "the title above it belongs to a menu or a footer"),
    "ornament": ("Ornament", "lines, arrows and other signs"),
    "hidden_text": ("Hidden text", "for screen readers or nobody"),
    "not_found": ("Not found", "the page says that there is no such page"),
    "edit_link": ("Edit link", "a link to change the section"),
    "repeated_on_pages": ("Repeated on a site", "the same on many pages of its site"),
}

# What a page came to.
OUTCOMES: dict[str, tuple[str, str]] = {
    "segments": ("Gave segments", "at least one section was kept"),
    "no_text": ("No text", "the page has none at all"),
    "text_in_scripts": ("Text in scripts", "hardly any is shown before its scripts run"),
    "no_content": ("No content", "nothing but furniture: menus, forms, notices"),
    "no_section": ("No section", "no header, and no run of paragraphs of a fitting length"),
    "all_rejected": ("All rejected", "it has sections, and none passed the filters"),
    "blocked_domain": ("Blocked domain", "its site is on the list of blocked domains"),
    "forgotten": ("Forgotten", "it is on the run's list of pages to forget"),
    "truncated": ("Cut off", "the page was cut short, and nothing before that was kept"),
}


WORDS = {"segment": SEGMENT_REASONS, "block": BLOCK_REASONS, "record": RECORD_REASONS, "outcome": OUTCOMES}


def corpus_words(kind: str, reason: str, settings: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """(label, why) of a reason, with the settings of a run where they are known, else `…`.

    `kind` says what it is the reason of, a key of WORDS: one name may mean two things. A detail after a colon, as in
    `http_status:404`, goes into the label. A reason without words has its own name as label.
    """
    name, _, detail = reason.partition(":")
    for table in (WORDS[kind], *WORDS.values()):
        if name in table:
            label, why = table[name]
            return (f"{label} ({detail})" if detail else label), _fill(why, settings)
    return reason.replace("_", " ").replace(":", ": ").capitalize(), ""


def _fill(why: str, settings: Mapping[str, Any] | None) -> str:
    """The words with settings in the place of their names."""
    shown = {name: _shown(value) for name, value in (settings or {}).items()}
    return why.format_map(collections.defaultdict(lambda: "…", shown))


def _shown(value: Any) -> str:
    """Fractions as per cent, several texts as one."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "…"
    return f"{100 * value:g} %" if isinstance(value, float) and 0 <= value <= 1 else str(value)
