"""Paths: decoded once and resolved, or refused where they can be read in more than one way.

A proxy, the sidecar and the application must mean the same resource by one path. Whatever one of
them could read differently (an encoded slash, a `;`, a second round of decoding, a `//` merged before
or after the dot segments) is not guessed at: it is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from sidecar.errors import InvalidValue, RequestRefused
from sidecar.model import Reason, RequestPath

_SEGMENT_START = rb"[A-Za-z0-9_~!$&'()*+,=:@-]"
_SEGMENT_REST = rb"[A-Za-z0-9_.~!$&'()*+,=:@-]*"
# Nothing to decode, merge or resolve: nearly every path there is.
_PLAIN = re.compile(rb"(?:/" + _SEGMENT_START + _SEGMENT_REST + rb")*/?")
_REFUSED = re.compile(
    rb"[\x00-\x20\x7f-\xff\\;#]"  # never sent by a browser, or a separator to somebody
    rb"|%(?![0-9A-Fa-f]{2})"  # a bad escape
    rb"|%(?:00|23|3[Bb]|5[Cc])"  # NUL # ; and backslash, encoded
)
_ENCODED_SLASH = re.compile(rb"%2[Ff]")
_DECODABLE_AGAIN = re.compile(r"%[0-9A-Fa-f]{2}")
_SLASHES = re.compile(r"/{2,}")


def read_path(raw: bytes) -> RequestPath:
    """The path that these bytes of a request line mean. Raises RequestRefused.

    `bad_url`: not a path at all. `ambiguous_path`: it can be read two ways.
    """
    if raw and _PLAIN.fullmatch(raw):
        return RequestPath(raw.decode("ascii"))
    if not raw.startswith(b"/"):
        raise RequestRefused(Reason.BAD_URL, "the path does not begin with /")
    if found := _REFUSED.search(raw):
        raise RequestRefused(Reason.AMBIGUOUS_PATH, _refused(found[0]))
    pieces = [_decode(piece) for piece in _ENCODED_SLASH.split(raw)]
    if len(pieces) == 1:
        return RequestPath(_resolve(pieces[0]))
    return RequestPath(_resolve("%2F".join(pieces)), split=_resolve("/".join(pieces)))


def _refused(found: bytes) -> str:
    if found == b"%":
        return "a % has no two hexadecimal digits behind it"
    text = found.decode("latin-1")
    return f"{text if text.isascii() and text.isprintable() and text != ' ' else ascii(text)} is in the path"


def _decode(raw: bytes) -> str:
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise RequestRefused(Reason.AMBIGUOUS_PATH, "what is escaped in it is no UTF-8") from None
    if _DECODABLE_AGAIN.search(text):
        raise RequestRefused(Reason.AMBIGUOUS_PATH, "it is escaped twice")
    return text


def _resolve(path: str) -> str:
    """Merges `//` and resolves dot segments, where the order of the two makes no difference."""
    merged_first = _without_dot_segments(_merged(path))
    if merged_first != _merged(_without_dot_segments(path)):
        raise RequestRefused(Reason.AMBIGUOUS_PATH, "what .. leaves depends on whether // is merged first")
    return merged_first


def _merged(path: str) -> str:
    return _SLASHES.sub("/", path)


def _without_dot_segments(path: str) -> str:
    """RFC 3986, 5.2.4, but a `..` above the root is refused instead of dropped."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if not kept:
                raise RequestRefused(Reason.AMBIGUOUS_PATH, ".. leads above the root")
            kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


# --- patterns ------------------------------------------------------------------------------------

_BOUNDARY = r"(?=/|\Z)"
_SOME_SEGMENTS = r"(?:/[^/]*)*"


@dataclass(frozen=True, slots=True)
class PathPattern:
    """`*` stands for anything within a segment, `**` for any number of whole segments.

    `/a/**` also matches `/a`. A pattern is anchored at both ends and written decoded. Matching never
    backtracks beyond one linear pass for each `**`, however long the path.
    """

    text: str
    _regex: re.Pattern[str] = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Raises InvalidValue."""
        if fault := _pattern_fault(text):
            raise InvalidValue(f"{text!r} is not a path pattern: {fault}")
        return cls(text, re.compile(_regex(text[1:].split("/")), re.DOTALL))

    def matches(self, path: str) -> bool:
        """Whether the decoded, resolved path is one of these."""
        return self._regex.fullmatch(path) is not None


def _pattern_fault(text: str) -> str:
    segments = text.split("/")
    if segments[0] or len(segments) == 1:
        return "it must start with /"
    if any("**" in segment and segment != "**" for segment in segments):
        return "** must be a whole segment, as in /a/** or /**/b"
    if "" in segments[1:-1] or not {".", ".."}.isdisjoint(segments):
        return "a request's path never has //, /./ or /../ when it is matched"
    if _DECODABLE_AGAIN.search(text):
        return "it is compared with the decoded path: write the character itself, not its escape"
    if any(character in text for character in "?#;\\"):
        return "a path that is matched never has ? # ; or \\"
    return ""


def _regex(segments: list[str]) -> str:
    chunks: list[list[str]] = [[]]
    for segment in segments:
        if segment == "**":
            chunks.append([])
        else:
            chunks[-1].append(segment)
    first, *others = ["".join("/" + _segment_regex(segment) for segment in chunk) for chunk in chunks]
    if not others:
        return first
    # A chunk between two `**` is found at the first place that fits: a later one leaves no more to the
    # rest of the pattern. So each search is atomic, and nothing is ever tried twice.
    *between, last = others
    searches = "".join(f"(?>{_SOME_SEGMENTS}?{chunk}{_BOUNDARY})" for chunk in between if chunk)
    return first + _BOUNDARY + searches + _SOME_SEGMENTS + last


def _segment_regex(segment: str) -> str:
    first, *others = [re.escape(piece) for piece in segment.split("*")]
    if not others:
        return first
    *between, last = others
    return first + "".join(f"(?>[^/]*?{piece})" for piece in between) + "[^/]*" + last
