"""Personal data in a text: email addresses, phone numbers, IP addresses, card and account numbers give way to a name.

Each kind is found by its shape and, where it has one, by its check digits (Luhn, ISO 7064), so that dates, versions,
prices and code stay as they are. Text without personal data comes back unchanged, and so does masked text.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

_EMAIL = re.compile(
    r"(?<![\w.+%-])([^\W_](?:[\w.+%-]{0,62}[\w+%-])?@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,6}[^\W\d_]{2,24})"
    r"(?![\w@-]|:[\w/~])"  # git@host:path is a remote
)
_IPV4 = re.compile(r"(?<![\w.-])(?<!\w/)(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])([23][0-9a-f]{0,3}(?::[0-9a-f]{0,4}){2,7})(?![\w:])", re.IGNORECASE)
_CARD = re.compile(r"(?<![\w.,+-])([2-6]\d{3}(?:[ -]?\d){9,15})(?![\w-]|[.,]\d)")
_IBAN = re.compile(r"(?<!\w)([A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30})(?!\w)")
# A number with a country code, and those that North America writes.
_PHONE = re.compile(
    r"(?<![\w.,/+-])(?<!\d:)("
    r"(?:\+|00(?=\d{1,3}[ .\-/]))[1-9]\d{0,2}(?:[ .\-/\u00a0]{0,3}(?:\(0?\d{1,4}\)|\d{1,4})){2,6}"
    r"|(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}"
    r"|(?:1-)?[2-9]\d{2}-\d{3}-\d{4}"
    r"|[2-9]\d{2}\.\d{3}\.\d{4}"
    r")(?![\w-]|[.,]\d)"
)
# A number behind a word that says what it is, set apart by a sign or written as phone numbers are.
_NUMBER = re.compile(r"(?<![\w.,/+-])\(?\d[\d ()/\u00a0-]{4,20}\d(?![\w-]|[.,]\d)")
_PHONE_BEFORE = re.compile(
    r"(?:\b(?:tele)?(?:phone|fon|fone|fono)|\btéléphone|\bteléfono|\btelefoon|\btel|\btél|\bmobile?|\bmobil|\bhandy|\bcell"
    r"|\bcellulare|\bfax|\bwhatsapp|\bhotline|\bтел|\bтелефон|電話|电话|傳真|传真|ファックス)"
    r"(?: ?(?:no|nr|number|nummer))?(?P<sign>\.? ?[:：] ?|\. ?| )$",
    re.IGNORECASE,
)
_VERSION_BEFORE = re.compile(
    r"(?:\b(?:v|ver|version|release|rev|build|firmware|oid|section|chapter)\W{0,3}|[=<>~^]= ?)$", re.IGNORECASE
)
_WRITTEN_AS_PHONE = re.compile(r"[0(]|\d{3}-\d{4}$")
_LOOK_BACK = 24
_SEPARATORS = re.compile(r"[\s\-]")
_DIGIT = re.compile(r"\d")
_CARD_LENGTHS = {"2": (16,), "3": (14, 15, 16), "4": (13, 16, 19), "5": (16,), "6": (16, 17, 18, 19)}
_VERSION_PARTS = 20  # an "address" with no part as large is a version or a chapter
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")

# Characters of an account number by country.
_IBAN_LENGTHS = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18
    FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20
    LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24
    SI19 SK24 SM27 ST25 SV28 TN24 TR26 UA29 VA22 VG24 XK20
"""
IBAN_LENGTHS = {each[:2]: int(each[2:]) for each in _IBAN_LENGTHS.split()}


def mask_personal_data(text: str) -> tuple[str, Counter[str]]:
    """(the text with personal data as "[email address]" and so on, how many of each kind were masked)."""
    masked: Counter[str] = Counter()
    while True:  # what stood beside a masked number may be seen for what it is only now
        before = masked.total()
        if "@" in text:
            text = _masked(_EMAIL, _email, "email address", text, masked)
        if _DIGIT.search(text):
            for pattern, measure, name in _WITH_DIGITS:
                text = _masked(pattern, measure, name, text, masked)
        if masked.total() == before:
            return text, masked


def luhn_ok(digits: str) -> bool:
    """The check of card numbers: every second digit from the right doubled, the sum of digits divisible by ten."""
    values = [int(digit) for digit in reversed(digits)]
    return sum(values[::2] + [sum(divmod(2 * value, 10)) for value in values[1::2]]) % 10 == 0


def iban_ok(compact: str) -> bool:
    """The check of account numbers (ISO 13616): length of the country, and modulo 97 of the digits is 1."""
    if len(compact) != IBAN_LENGTHS.get(compact[:2]):
        return False
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def _masked(
    pattern: re.Pattern[str], measure: Callable[[str, str], int], name: str, text: str, masked: Counter[str]
) -> str:
    """The text with the first `measure(match, what stands before)` characters of all matches replaced."""
    parts, end = [], 0
    for match in pattern.finditer(text):
        if length := measure(match[0], text[max(match.start() - _LOOK_BACK, 0) : match.start()]):
            parts += [text[end : match.start()], f"[{name}]"]
            end = match.start() + length
            masked[name] += 1
    return "".join([*parts, text[end:]])


def _email(data: str, before: str) -> int:
    return len(data)


def _ipv4(data: str, before: str) -> int:
    """An address that may be somebody's: of no private network, and no version number."""
    parts = [int(part) for part in data.split(".")]
    if any(len(part) > 1 and part.startswith("0") for part in data.split(".")) or max(parts) > 255:
        return 0
    private = parts[0] in (0, 10, 127, 255) or parts[:2] == [192, 168] or parts[:2] == [169, 254]
    private = private or (parts[0] == 172 and 16 <= parts[1] <= 31)
    is_version = max(parts) < _VERSION_PARTS or _VERSION_BEFORE.search(before)
    return 0 if private or is_version else len(data)


def _ipv6(data: str, before: str) -> int:
    try:
        return len(data) if ipaddress.IPv6Address(data) in _PUBLIC_IPV6 else 0
    except ValueError:
        return 0


def _card(data: str, before: str) -> int:
    digits = _digits(data)
    one_separator = len(set(_SEPARATORS.findall(data))) <= 1
    is_card = len(digits) in _CARD_LENGTHS[data[0]] and one_separator and len(set(digits)) > 1 and luhn_ok(digits)
    return len(data) if is_card else 0


def _iban(data: str, before: str) -> int:
    """The account number that the data begin with: words in capitals may follow it."""
    wanted = IBAN_LENGTHS.get(data[:2], 0)
    end = next((end for end in range(len(data) + 1) if len(data[:end].replace(" ", "")) == wanted), 0)
    is_whole = not data[end : end + 1].strip()
    return end if is_whole and iban_ok(data[:end].replace(" ", "")) else 0


def _phone(data: str, before: str) -> int:
    """North American numbers have ten digits, those with a country code 9 to 15."""
    return len(data) if 9 <= len(_digits(data).removeprefix("00")) <= 15 and not _is_date(data) else 0


def _named_phone(data: str, before: str) -> int:
    name = _PHONE_BEFORE.search(before)
    if not name or (name["sign"] == " " and not _WRITTEN_AS_PHONE.match(data)):
        return 0
    return len(data) if 6 <= len(_digits(data)) <= 15 and not _is_date(data) else 0


def _digits(text: str) -> str:
    return "".join(_DIGIT.findall(text))


def _is_date(text: str) -> bool:
    """Year, month and day in any order, or two years."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    years = [number for number in numbers if 1000 <= number <= 2999]
    return len(numbers) <= 3 and len(years) >= 1 and all(n <= 31 for n in numbers if n not in years)


_WITH_DIGITS: tuple[tuple[re.Pattern[str], Callable[[str, str], int], str], ...] = (
    (_IBAN, _iban, "account number"),
    (_CARD, _card, "card number"),
    (_IPV6, _ipv6, "IP address"),
    (_IPV4, _ipv4, "IP address"),
    (_PHONE, _phone, "phone number"),
    (_NUMBER, _named_phone, "phone number"),
)
