"""JSON that is read one way only, or refused without a word of it."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import InvalidValue
from sidecar.strict_json import DEEPEST, read_object

AMBIGUOUS = "it is not JSON that can be read one way"
NO_OBJECT = "it is not a JSON object"


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    """An object with so many levels, itself counted."""
    return f'{{"a": {opening * (levels - 1)}{closing * (levels - 1)}}}'


def objects(levels: int) -> str:
    """The same, of objects alone."""
    return '{"a": ' * (levels - 1) + "{}" + "}" * (levels - 1)


READ = {
    "{}": {},
    ' \t\r\n{"a" : 1 }\n': {"a": 1},
    '{"a": [null, true, false, "", {}, []]}': {"a": [None, True, False, "", {}, []]},
    '{"a": {"a": 1}, "b": {"a": 2}}': {"a": {"a": 1}, "b": {"a": 2}},
    '{"a": -0, "b": 1.5e3, "c": 1e-999}': {"a": 0, "b": 1500.0, "c": 0.0},
    '{"a": 12345678901234567890}': {"a": 12345678901234567890},
    r'{"a": "\ud83d\ude00", "\u0062": "\u0000"}': {"a": "😀", "b": "\0"},
    '{"a": "ünal", "\ufeff": "\u2028"}': {"a": "ünal", "\ufeff": "\u2028"},
}

REFUSED = {
    "nothing": "",
    "whitespace": " \n",
    "no end": '{"a": 1',
    "two values": "{} {}",
    "no quotes": "{a: 1}",
    "single quotes": "{'a': 1}",
    "a comment": "{} // x",
    "a comma too many": '{"a": 1,}',
    "a line break in a string": '{"a": "\n"}',
    "another whitespace": '\u00a0{"a": 1}',
    "other digits": '{"a": \u0661}',
    "a leading zero": '{"a": 01}',
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": [Infinity]}',
    "-Infinity": '{"a": {"b": -Infinity}}',
    "1e999": '{"a": 1e999}',
    "-1e999": '{"a": -1e999}',
    "a number of 5000 digits": f'{{"a": {"9" * 5000}}}',
    "a member twice": '{"a": 1, "a": 1}',
    "a member twice, deeper": '{"a": [{"b": 1, "c": 2, "b": 3}]}',
    "a member twice, written differently": r'{"a": 1, "\u0061": 2}',
    "half a surrogate pair": r'{"a": "\ud83d"}',
    "the other half": r'{"a": "\ude00"}',
    "half of one in a name": r'{"\ud83d": 1}',
    "a byte-order mark": "\ufeff{}",
    "nested too deeply": nested(DEEPEST + 1),
    "objects nested too deeply": objects(DEEPEST + 1),
    "10,000 arrays": nested(10_000),
    "10,000 objects": objects(10_000),
    "10,000 arrays without an end": nested(10_000, closing=""),
}

REFUSED_BYTES = {
    "no UTF-8": b'{"a": "\xff"}',
    "UTF-8 that is longer than it has to be": b'{"a": "\xc0\xaf"}',
    "half a surrogate pair": b'{"a": "\xed\xa0\xbd"}',
    "half a character": b'{"a": "\xc3',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"a": 1}'.encode("utf-16-be"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
}


@pytest.mark.parametrize(("text", "value"), READ.items(), ids=str)
def test_what_can_be_read_one_way_is_read(text: str, value: object) -> None:
    assert read_object(text.encode()) == value


@pytest.mark.parametrize("text", [nested(DEEPEST), objects(DEEPEST)], ids=["arrays", "objects"])
def test_the_deepest_that_is_read(text: str) -> None:
    assert read_object(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{AMBIGUOUS}$"):
        read_object(text.encode())


@pytest.mark.parametrize("text", REFUSED_BYTES.values(), ids=REFUSED_BYTES)
def test_what_is_no_utf_8_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidValue, match=f"^{AMBIGUOUS}$"):
        read_object(text)


@pytest.mark.parametrize("text", ["[]", "[{}]", '"a"', "0", "1.5", "true", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{NO_OBJECT}$"):
        read_object(text.encode())


@pytest.mark.parametrize(
    "text", ['{"a": "PLANTED" "b"}', '{"PLANTED": NaN}', '"PLANTED"', r'{"PLANTED\ud83d": 1}']
)
def test_neither_a_refusal_nor_its_traceback_quotes_anything(text: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        read_object(text.encode())
    assert "PLANTED" not in "".join(traceback.format_exception(refused.value))


# --- properties --------------------------------------------------------------------------------------

TEXTS = st.text()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8)
WRITTEN = st.dictionaries(TEXTS, VALUES)
PIECES = st.sampled_from([*'{}[]":,a\\1-. ', r"\ud83d", r"\ude00", "e999", "NaN", "null"])


@given(WRITTEN, st.booleans(), st.sampled_from([None, 0, 2]))
def test_what_json_writes_is_read(value: dict[str, Any], only_ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=only_ascii, indent=indent)
    assert read_object(text.encode()) == value


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An object's text, with a piece put where it may be wrong."""
    text = json.dumps(draw(WRITTEN))
    position = draw(st.integers(0, len(text)))
    return f"{text[:position]}{draw(PIECES)}{text[position:]}".encode()


@given(damaged() | st.binary())
def test_what_is_read_is_what_json_reads_or_it_is_refused(text: bytes) -> None:
    try:
        value = read_object(text)
    except InvalidValue:
        return
    assert value == json.loads(text)
    assert isinstance(value, dict)
    assert read_object(json.dumps(value).encode()) == value
