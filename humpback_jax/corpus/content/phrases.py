"""Words by which pages name what is not their content: class names, headers and short lines, in many languages.

Every match yields a reason, a word that a person reads in reports and on the coloured page.
"""

import functools
import re

from humpback_jax.corpus.content.header_phrases import HEADER_PHRASES, PRIVACY_TERMS

# Words of class and id names, as they stand between "-", "_", digits and spaces, lower-cased. "*" stands for anything,
# for words that are glued to others ("articlecomments"); "right+col" for two words in a row or glued.
NAME_WORDS: dict[str, str] = {
    "navigation": """
        nav navi navs pager menu menus toc dropdown *navbar* *navigation* *navbox* *breadcrumb* *paginat* *pagenav*
        *skiplink* skip+link skip+to *sitemap* *mainmenu* *submenu* *megamenu* *tableofcontents* *toctree* jump+to
        jump+links back+top back+to *backtotop* *back2top* prev+next link+bar *langlink* *interlanguage* catlinks
        *hatnote* topic+actions *editsection* mw+indicators *sidenav* sub+nav sub+menu top+links quick+links
        post+navigation
    """,
    "site_header": """
        masthead *topbar* top+bar *siteheader* site+header page+header global+header header+bar main+header
        header+wrapper header+top
    """,
    "site_name": """
        logo *logo branding brand site+title site+name sitename blog+title blogname site+branding
    """,
    "footer": """
        *footer* foot copyright colophon imprint impressum legal disclaimer bottom+bar
    """,
    "sidebar": """
        *sidebar* side+bar *rightrail* right+rail left+rail rail side+rail marginal sidebox side+box widget+area """,
    "side_column": """ side+column *rightcol* right+col right+column *leftcol* left+col left+column column+right
        col+right column+left col+left right+side left+side secondary side+col
    """,
    "share_bar": """
        share *sharing* *sharebar* *sharebox* *sharetool* *sharebutton* *sharelink* share+bar *social* *addtoany*
        *sharedaddy* *followus* follow+us *addthis* *shariff* shareaholic sns retweet
    """,
    "comments": """
        *comments* *comment commentlist* commentbox* commentform* commentbody* commentarea* commentthread* *disqus*
        respond replies reply *guestbook* *shoutbox* *livefyre* *feedback* *trackback* *pingback* *kommentare*
        kommentar commentaires comentarios kommentarer reacties combx
    """,
    "reviews": """
        reviews customer+review user+review *ratings* review+list
    """,
    "related_links": """
        *related* *recommend* *recirc* *trending* *popular* *mostread* most+read most+viewed *readmore* read+more
        *readnext* read+next *morenews* more+news more+stories more+from more+in more+on more+articles more+posts
        *outbrain* *taboola* *zergnet* *teaser* *teasers* *alsolike* also+like similar *suggest* *upnext* up+next
        *headlines* *headline+list* onward latest recent+posts recent+articles recent+news *recentpost* see+also
        *seealso* whats+next next+article prev+article *articlelist* article+list news+list post+list trc top+stories
        rel+links story+list hot+topics link+list linklist lesetipps *mehrzum* mehr+zum *weitere* *aehnlich*
        voir+aussi lire+aussi
    """,
    "newsletter": """
        *newsletter* *subscri* *signup* sign+up *mailchimp* *optin* opt+in mc+embed email+form *abonn* hustle
        mailing+list email+signup donate donation
    """,
    "cookie_notice": """
        *cookie* *consent* *gdpr* *onetrust* privacy cmp *ccpa* *usercentrics* *didomi*
    """,
    "advertisement": """
        ad ads *advert* *adsense* *adslot* ad+slot *adbox* *adunit* *adsbygoogle* *sponsor* *promo promo* *promos
        *dfp* banner *banner* *werbung* *anzeige* *publicidad* *publicite* *affiliate* *upsell* commercial cta
        call+to adv
    """,
    "paywall": """
        *paywall* *regwall* *metered* subscription+wall piano barrier
    """,
    "popup": """
        modal *modal *popup* pop+up *overlay* *lightbox* *tooltip* toast *interstitial* alert
    """,
    "byline": """
        *byline* *dateline* *timestamp* *pubdate* publish+date publication+date published *postmeta* post+meta
        entry+meta *articlemeta* article+meta *metadata* meta *postdate* post+date *entrydate* entry+date
        article+date date dates datum article+info post+info *readingtime* reading+time read+time posted+on
        *postinfo* creditline pub+date story+date datetime timeago
    """,
    "author_box": """
        author authors *author author* about+the bio *authorbio* *authorbox* contributor contributors *postprofile*
        signature writer autor autoren profile vcard
    """,
    "caption": """
        caption *caption* captions photo+credit *photocredit* *imagecredit* image+credit credit credits legende
        bildunterschrift media+credit image+source
    """,
    "tags": """
        tags taglist tag+list post+tags *tagcloud* tag+cloud tag+links cat+links *keywords* topics categories
        *taglinks* post+categories schlagworte
    """,
    "references": """
        *reflist* references *footnotes* footnote bibliography citations
    """,
    "gallery": """
        gallery *slideshow* *carousel* slider *thumbnails* thumbs *thumbcaption*
    """,
    "toolbar": """
        *toolbar* tools article+tools print utility utilities buttons actions controls player *videoplayer*
        printfriendly
    """,
    "hidden_text": """
        sr+only sronly screen+reader visually+hidden visuallyhidden *screenreader* noprint
    """,
}
# Names that say nothing about their element: WordPress writes topics and settings of the page into them.
_SETTING_WORDS = "category- tag- has- no- not- with- without- is- hide- format- status- term-"
_SETTINGS = tuple(_SETTING_WORDS.split())
_NAME_PARTS = re.compile(r"[a-zà-ÿ]+")
_GLUE = 3  # letters; no glued word is shorter
_WHOLE_WORDS: dict[str, str] = {}
# By the first three letters of words that may be glued to others: place in the table (what comes first counts), the
# word, whether anything may stand before and after it, reason.
_GLUED_WORDS: dict[str, list[tuple[int, str, bool, bool, str]]] = {}
_named = [(word, reason) for reason, words in NAME_WORDS.items() for word in words.split()]
for _place, (_word, _reason) in enumerate(_named):
    _bare = _word.strip("*").replace("+", "")
    if "*" in _word:
        _GLUED_WORDS.setdefault(_bare[:_GLUE], []).append((_place, _bare, _word[0] == "*", _word[-1] == "*", _reason))
    _WHOLE_WORDS.setdefault(_bare, _reason)


@functools.lru_cache(maxsize=1 << 16)
def _word_reason(word: str) -> str | None:
    if reason := _WHOLE_WORDS.get(word):
        return reason
    found: list[tuple[int, str]] = []
    for begin in range(len(word) - _GLUE + 1):
        for place, glued, before, after, reason in _GLUED_WORDS.get(word[begin : begin + _GLUE], ()):
            is_there = word.startswith(glued, begin) and (before or not begin)
            if is_there and (after or begin + len(glued) == len(word)):
                found.append((place, reason))
    return min(found)[1] if found else None


@functools.lru_cache(maxsize=1 << 16)
def names_reason(names: str) -> str | None:
    """What class and id names (lower-cased, separated by spaces) say their element is, if that is furniture."""
    for name in names.split():
        if reason := _name_reason(name):
            return reason
    return None


@functools.lru_cache(maxsize=1 << 16)
def _name_reason(name: str) -> str | None:
    if name.startswith(_SETTINGS):
        return None
    last = ""
    for word in _NAME_PARTS.findall(name):
        reason = _word_reason(word) or (_WHOLE_WORDS.get(last + word) if last else None)
        if reason:
            return reason
        last = word
    return None


def is_slug_of(names: str, header: str) -> bool:
    """Whether one of the names is the header once more, in letters and hyphens; of two words or more."""
    letters = "".join(_NAME_PARTS.findall(header.lower()))
    return " " in header and any("".join(_NAME_PARTS.findall(name)) == letters for name in names.split())


# Every punctuation mark that headers carry at their ends or between words; apostrophes vanish, the others part words.
_PUNCTUATION: dict[int, str | None] = {
    ord(mark): " " for mark in '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~«»„“”…–—·•：？！。、，→←›‹▼▾►▶»|'
}
_PUNCTUATION |= dict.fromkeys(map(ord, "'’‘´"))
_PUNCTUATION[ord("İ")] = "i"  # else its lower case is two letters
_ASCII_PUNCTUATION = bytes(ord(" ") if _PUNCTUATION.get(code) else code for code in range(256))


_PRIVACY_TERMS = tuple(term.strip() for term in PRIVACY_TERMS.replace("\n", "").split("|"))
_ASCII_PRIVACY_TERMS = tuple(filter(str.isascii, _PRIVACY_TERMS))
_SLIDE = re.compile(r"\d{1,3} ?/ ?\d{1,3}\b")  # "3/50" before the title of a picture


def header_words(header: str) -> str:
    """A header in lower case, single spaces and without punctuation, as the phrases are written."""
    if header.isascii():
        return " ".join(header.lower().encode().translate(_ASCII_PUNCTUATION, b"'").decode().split())
    return " ".join(header.translate(_PUNCTUATION).casefold().split())


def speaks_of_privacy(text: str) -> bool:
    """Whether a text speaks of cookies or personal data as notices do: in two or more of their terms."""
    lower = text.lower()
    found = 0
    for term in _ASCII_PRIVACY_TERMS if lower.isascii() else _PRIVACY_TERMS:
        found += term in lower
        if found > 1:
            return True
    return False


def phrase_table(phrases_of_reason: dict[str, str]) -> dict[str, str]:
    """Phrase, as `header_words` writes it, to reason; the phrases of a reason are separated by "|"."""
    return {
        words: reason
        for reason, phrases in phrases_of_reason.items()
        for phrase in phrases.replace("\n", " ").split("|")
        if (words := header_words(phrase))
    }


_REASON_OF_HEADER = phrase_table(HEADER_PHRASES)
# Headers with a number or a name in them.
_COUNT = r"(?:\d[\d ]*|no|one|two|three|four|five|six|seven|eight|nine|ten|ein|eine|un|une|uno|una|um|uma)"
_HEADER_PATTERNS = {
    "comments": (
        rf"{_COUNT} (?:reader |user )?(?:comments?|repl(?:y|ies)|responses?|thoughts?|reactions?|kommentare?"
        rf"|antworten?"
        r"|meinungen|gedanken?|commentaires?|réponses?|réactions?|avis|comentarios?|respuestas?|pensamientos?"
        r"|comment[io]"
        r"|rispost[ae]|pensier[io]|comentários?|respostas?|reacties?|gedachten|komentarz[ey]?|komentarzy"
        r"|odpowiedzi|myśli"
        r"|коммента\w+|отзыв\w*|ответ\w*|комента\w+|мысл\w+|yorum|cevap|komentar|tanggapan|pemikiran|kommentarer"
        r"|tankar"
        r"|tanker|svar|kommenttia|komentář\w*|komentár\w*|hozzászólás|comentarii|răspuns\w*|σχόλι\w+|تعليق\w*"
        r"|komentara)\b"
        r"|(?:comments?|replies|responses|kommentare|commentaires|comentarios|commenti|comentários|reacties"
        r"|komentarze"
        r"|комментарии|коментарі|yorumlar|komentar|kommentarer|評論|评论|コメント|댓글) \d+$"
        r"|(?:leave|post|write|add|submit) (?:a|your|the first) (?:comment|reply|response|review)"
        r"|comments? (?:on|for|are|section|by)\b|join (?:the|our) (?:conversation|discussion)"
        r"|(?:schreibe?n? (?:sie )?|verfassen sie |hinterlassen? (?:sie )?)(?:einen?|ihren) (?:kommentar|antwort)"
    ),
    "related_links": (
        r"(?:weitere|ähnliche|verwandte|aktuelle|neueste|beliebte|empfohlene) "
        r"(?:artikel|beiträge|nachrichten|meldungen|themen|news|videos)|mehr zum thema|das könnte (?:sie|dich"
        r"|ihnen|dir)\b"
        r"|(?:articles|sujets|contenus|vidéos) (?:similaires|liés|connexes|récents|recommandés|associés|populaires)"
        r"|(?:artículos|noticias|entradas|contenidos?|temas|notas) (?:relacionad|recient|popular|destacad|recomendad)"
        r"|(?:articoli|notizie|contenuti|post) (?:correlat|recent|simil|popolar|consigliat)"
        r"|(?:artigos|notícias|posts|conteúdos?|matérias|publicações) (?:relacionad|recent|popular|recomendad)"
        r"|(?:gerelateerde|laatste|populaire|andere) (?:artikelen|berichten|nieuws)"
        r"|(?:podobne|powiązane|najnowsze|popularne|polecane|inne) (?:artykuły|wpisy|tematy|wiadomości|newsy)"
        r"|(?:похожие|последние|популярные|свежие|другие|связанные|интересные|новые) "
        r"(?:статьи|записи|новости|материалы|публикации|темы|посты)"
        r"|(?:relaterade|relaterede|relaterte|liknande|lignende|senaste|seneste|siste) "
        r"(?:artiklar|artikler|nyheter|nyheder|inlägg|indlæg|innlegg)"
        r"|(?:ilgili|benzer|son|popüler) (?:haber|yazı|konu)|(?:související|podobné|nejnovější|další) (?:články"
        r"|témata|zprávy)"
        r"|more (?:from|in|by|stories|news|articles|posts|related|headlines|coverage|on this|on the|great|top"
        r"|recent)\b"
        r"|(?:related|similar|recommended|latest|recent|popular|trending|featured|top|other|further|most (?:read"
        r"|popular|viewed))"
        r" (?:\w+ )?(?:articles?|posts?|stories|story|content|news|links?|headlines?|reads?|readings?|videos?"
        r"|topics?|blogs?)\b"
        r"|(?:you|we think you) (?:may|might|ll|will|could)(?: also)? (?:like|love|enjoy|be interested)"
        r"|see more\b|readers also"
        r"|latest (?:from|in|on)\b|the latest(?: news| stories|$)|what (?:others|people) are|(?:mehr|neues"
        r"|aktuelles) (?:aus|von|zu"
        r"|über)\b"
        r"|(?:plus|autres) d? ?(?:articles|actualités)|más (?:de|en|sobre|noticias)\b|altri articoli|mais (?:de"
        r"|em|sobre)\b"
        r"|customers? (?:who|also)\b|people who (?:read|viewed|bought)|frequently bought|от (?:того же )?автора"
        r"|ещё (?:по|из)\b"
    ),
    "newsletter": (
        r"(?:sign up|subscribe|join|register|get|receive|enter|want|download|stay|follow)\b.*\b"
        r"(?:newsletters?|inbox|e ?mails?|updates?|mailing list|whatsapp|telegram|app|subscribers|community"
        r"|free printable)\b"
        r"|thank(?:s| you) for (?:sign|subscrib|regist)|.*\b(?:straight|delivered|direct) (?:to|in"
        r"|into) your inbox|.*newsletter\b.*"
        r"|.*\babonnieren$|subscribe (?:to|for|now|today)\b|(?:join|support) (?:us|our)\b|.*\bjoin (?:our"
        r"|the) .*(?:group|channel|community)\b"
    ),
    "share_bar": (
        r"share (?:this|on|via|your|with|the|to)\b|(?:follow|find|like|join|connect with) (?:us|me|\w+) on\b"
        r"|teilen sie|partager (?:sur|cet|cette)"
        r"|compartir (?:en|esta|este)\b|condividi (?:su|questo)|compartilhe (?:no|na|esta|este)\b|поделиться (?:в"
        r"|с|на)\b"
    ),
    "author_box": (
        r"about (?:the|this) (?:authors?|writers?|editors?|blogger|contributor|reviewer|site|blog|website|company"
        r"|publisher)\b|über (?:den|die) autor"
        r"|meet the (?:author|team|writer)|written by|(?:more|other|all|latest) (?:posts|articles|stories"
        r"|by) by\b|view (?:all )?posts by"
    ),
    "cookie_notice": (
        r"(?:we|this (?:site|website|page)|our (?:site|website)|\w+) (?:and our partners "
        r"|und unsere partner )?(?:uses?|values?|cares? about|respects?)"
        r" (?:your )?(?:cookies|privacy)|.*\b(?:cookies?|gdpr)\b.*(?:settings|preferences|policy|consent|notice"
        r"|einstellungen|richtlinie)"
        r"|manage (?:your )?(?:privacy|consent|cookies)|.*\bdatenschutz(?:einstellungen|hinweise?)?$"
        r"|nous (?:utilisons|respectons)\b.*(?:cookies|privée)"
    ),
    "paywall": (
        r"(?:continue|keep|finish) reading\b.*|(?:subscribe|log ?in|sign ?in|register|sign ?up) (?:to"
        r"|for) (?:read|continue|access|keep|unlock|full|unlimited|view)"
        r"|(?:this|the) (?:article|content|story|page) is (?:for|only|exclusive|available (?:only )?(?:to|for))"
        r"|(?:already|not yet|become) an? (?:subscriber|member)"
        r"|(?:unlock|purchase|buy) (?:this|the|full|unlimited)\b|to (?:continue|keep) reading|you(?:ve"
        r"| have) (?:reached|read)\b.*(?:limit|free)|.*\bnur (?:für|mit) abo"
    ),
    "not_found": (
        r"(?:error )?404\b|(?:sorry|oops|oh no|uh oh|whoops)\b.*(?:page|found|wrong|cant|cannot|missing|exist)"
        r"|.*\bpage (?:was |could |can )?not (?:be )?found"
        r"|.*\bpage (?:you\b.*|)(?:doesnt|does not|no longer) exist|.*\b(?:nicht gefunden|introuvable"
        r"|no encontrad[ao]|non trovata|não encontrada|не найдена)$"
    ),
    "advertisement": (
        r"(?:sponsored|promoted|paid) (?:by|links|content|stories|post)\b|advertise(?:ment|r)?s?\b|(?:todays|best"
        r"|top|special) (?:deals|offers)\b"
    ),
    "reviews": (
        r"(?:customer|user|guest|reader|verified) (?:reviews?|ratings?|questions?)\b"
        r"|\d+ (?:customer )?(?:reviews?|ratings?|bewertungen|avis)\b|reviews? \d+$"
    ),
}
# One after the other in one, each a group that is called by its reason.
_HEADER_PATTERN = re.compile("|".join(f"(?P<{reason}>{each})" for reason, each in _HEADER_PATTERNS.items()))


# Reasons that a header of one word settles, but for words that sections of papers and essays are called too.
_SETTLED_BY_ONE_WORD = frozenset(("comments", "references", "reviews", "not_found", "newsletter", "advertisement"))
_ALSO_CONTENT = frozenset(
    ("discussion", "diskussion", "discuss", "conversation", "replies", "responses", "reply", "antworten", "обсуждение")
)


@functools.lru_cache(maxsize=65536)
def header_reason(header: str) -> tuple[str | None, bool]:
    """(what a header introduces, if it is furniture; whether its words alone settle it).

    A header of one word ("News", "Resources") may also stand over content: there the text under it decides.
    """
    words = header_words(header)
    if not words or len(words) > 120:
        return None, False
    if _SLIDE.match(header):
        return "gallery", True
    if reason := _REASON_OF_HEADER.get(words):
        spaced = " " in words or (not words.isascii() and len(words) > 3)
        return reason, spaced or (reason in _SETTLED_BY_ONE_WORD and words not in _ALSO_CONTENT)
    found = _HEADER_PATTERN.match(words)
    return (found.lastgroup, True) if found else (None, False)
