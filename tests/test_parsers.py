"""Properties of the parsers: whatever bytes come, one reading or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.credentials import cookie_values, presented
from sidecar.errors import InvalidValue, RequestRefused
from sidecar.hosts import read_host
from sidecar.model import Form, Headers
from sidecar.paths import PathPattern, read_path
from sidecar.redirects import Redirects
from sidecar.trust import client_address

PIECES = st.sampled_from(
    [
        b"/",
        b"//",
        b".",
        b"..",
        b"/../",
        b"/./",
        b"a",
        b"%61",
        b"%2e",
        b"%2F",
        b"%",
        b"%25",
        b";",
        b"#",
        b"\\",
        b"\xff",
    ]
)
PATHS = st.one_of(
    st.binary(), st.lists(PIECES).map(b"".join), st.lists(PIECES).map(lambda x: b"/" + b"".join(x))
)
COOKIE_TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0")).map(
    lambda text: text.encode("latin-1")
)


def expect(refused: RequestRefused, reason: str) -> None:
    assert refused.reason == reason


@given(PATHS)
def test_a_path_has_one_reading_or_is_refused(raw: bytes) -> None:
    try:
        path = read_path(raw)
    except RequestRefused:
        return
    for reading in filter(None, (path.text, path.split)):
        assert reading.startswith("/")
        assert "//" not in reading
        assert {".", ".."}.isdisjoint(reading.split("/"))
        assert "\0" not in reading


@given(PATHS)
def test_reading_a_path_again_changes_nothing(raw: bytes) -> None:
    try:
        path = read_path(raw)
    except RequestRefused:
        return
    if path.text.isascii() and path.split is None and "%" not in path.text and "?" not in path.text:
        again = path.text.encode()
        if all(0x20 < byte < 0x7F for byte in again):
            assert read_path(again) == path


SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", "", "x.js"]), max_size=6)


@given(st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "*b", "*.js"]), min_size=1, max_size=5), SEGMENTS)
def test_a_pattern_matches_what_its_definition_says(pattern: list[str], path: list[str]) -> None:
    text = "/" + "/".join(pattern)
    assert PathPattern.parse(text).matches("/" + "/".join(path)) == by_definition(pattern, path or [""])


def by_definition(pattern: list[str], path: list[str]) -> bool:
    """The same by trying everything."""
    if not pattern:
        return not path
    first, *rest = pattern
    if first == "**":
        return any(by_definition(rest, path[skipped:]) for skipped in range(len(path) + 1))
    return bool(path) and segment_matches(first, path[0]) and by_definition(rest, path[1:])


def segment_matches(pattern: str, segment: str) -> bool:
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == segment
    return segment.startswith(before) and segment[len(before) :].endswith(after)


@given(COOKIE_TEXT, COOKIE_TEXT, st.from_regex(rb"[A-Za-z0-9_-]{1,43}", fullmatch=True))
def test_a_session_is_found_between_any_other_cookies(before: bytes, after: bytes, secret: bytes) -> None:
    line = b"a=%b; sid=%b; b=%b" % (before.replace(b"sid=", b""), secret, after.replace(b"sid=", b""))
    assert cookie_values(Headers([(b"cookie", line)]), b"sid") == [secret]


@given(
    st.lists(st.tuples(st.sampled_from([b"cookie", b"authorization", b"x-api-key"]), st.binary()), max_size=4)
)
def test_a_credential_is_read_or_refused_and_never_repeats_itself_in_repr(
    lines: list[tuple[bytes, bytes]],
) -> None:
    try:
        credential = presented(Headers(lines), frozenset(Form), b"sid")
    except RequestRefused as refused:
        expect(refused, "malformed_credential")
        return
    if credential is not None and len(credential.value) > 8:
        assert repr(credential.value)[2:-1] not in repr(credential)


@given(st.binary())
def test_a_host_is_normal_after_one_reading(raw: bytes) -> None:
    try:
        host = read_host(raw, "https")
    except RequestRefused as refused:
        expect(refused, "bad_host")
        return
    assert host.name == host.name.lower()
    assert read_host(f"{host.name}:{host.port}".encode(), "https") == host


@given(st.lists(st.binary(), max_size=3), st.integers(1, 3))
def test_a_client_is_an_address_or_refused(values: list[bytes], hops: int) -> None:
    try:
        client_address(Headers([(b"x-forwarded-for", value) for value in values]), "127.0.0.1", hops)
    except RequestRefused as refused:
        expect(refused, "bad_client_address")


@given(st.text())
def test_no_text_leads_anywhere_but_to_an_allowed_host(text: str) -> None:
    redirects = Redirects("https://app.example.com/_sidecar", ["*.example.org"])
    target = redirects.checked(text)
    assert target == redirects.default or target.startswith(
        ("https://app.example.com", "http://app.example.com")
    )


@pytest.mark.parametrize("text", ["a", "", "/a/**b", "/../a", "/a?b", "/a;b", "/%41", "/a\\b"])
def test_a_pattern_that_could_never_match_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="is not a path pattern"):
        PathPattern.parse(text)
