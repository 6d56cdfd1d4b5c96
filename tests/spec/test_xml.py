"""The safe parser and the fields over the tree."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from kvmweb.spec.xml import (
    MAX_BYTES,
    MAX_DEPTH,
    Element,
    Field,
    Flag,
    Number,
    Size,
    XmlError,
    parse,
    readable,
    text_of,
)

_ENTITIES = "".join(
    '<!ENTITY a{} "{}">'.format(number, f"&a{number - 1};" * 10) for number in range(1, 10)
)
LAUGHS = f'<!DOCTYPE d [<!ENTITY a0 "ha">{_ENTITIES}]><d>&a9;</d>'
QUADRATIC = f'<!DOCTYPE d [<!ENTITY a "{"x" * 50_000}">]><d>{"&a;" * 50_000}</d>'
IN_ATTRIBUTE = LAUGHS.replace("<d>&a9;</d>", '<d a="&a9;"/>')


class Thing(Element):
    name = Field("name", "Name")
    mode = Field("cpu/@mode", "Mode")
    is_on = Flag("on", "On")
    count = Number("count", "Count")
    memory = Size("memory", "Memory")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "This is not well-formed XML"),
        ("   ", "This is not well-formed XML"),
        ("hello", "Line 1: This is not well-formed XML"),
        ("<a>\n<b>\n</a>", "Line 3: This is not well-formed XML"),
        ("<a>\x00</a>", "This is not well-formed XML"),
        ("<a>&nbsp;</a>", "This is not well-formed XML"),
        ("<a/><b/>", "This is not well-formed XML"),
        (b"\xff\xfe<\x00a\x00/\x00>\x00", "The document is not UTF-8 text."),
        (b"<a>\xe4</a>", "The document is not UTF-8 text."),
        ("<a>\ud800</a>", "The document is not UTF-8 text."),
        ("<!DOCTYPE a><a/>", "A document type (<!DOCTYPE>) is not taken."),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "A document type"),
        ('<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><a>&e;</a>', "A document type"),
        ("<a>" + "x" * MAX_BYTES + "</a>", "too long: at most 4 MiB"),
        ("<a>" * (MAX_DEPTH + 1) + "</a>" * (MAX_DEPTH + 1), "nested deeper than 100 levels"),
        ("<a>" * 100_000, "This is not well-formed XML"),
    ],
)
def test_a_bad_document_is_refused_with_a_sentence(text: str | bytes, sentence: str) -> None:
    with pytest.raises(XmlError, match=re.escape(sentence)):
        parse(text)


@pytest.mark.parametrize("bomb", [LAUGHS, QUADRATIC, IN_ATTRIBUTE])
def test_a_bomb_does_not_go_off(bomb: str) -> None:
    started = time.monotonic()
    with pytest.raises(XmlError):
        parse(bomb)
    assert time.monotonic() - started < 2


@given(st.text() | st.binary())
def test_any_input_gives_a_tree_or_a_sentence(text: str | bytes) -> None:
    try:
        parse(text)
    except XmlError as error:
        sentence = str(error)
    else:
        return
    assert sentence.endswith(".")


_words = st.text(
    alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20
)


@given(_words, _words)
def test_what_is_written_is_read_again(name: str, mode: str) -> None:
    thing = Thing.new("thing", name=name.strip(), mode=mode)
    again = Thing(parse(text_of(thing.tree)))
    assert again.name == name.strip()
    assert again.mode == mode


@pytest.mark.parametrize(
    "text",
    ['<?xml version="1.0" encoding="UTF-16"?><a>ü</a>', "\ufeff<a/>".encode(), "\n\n<a/>\n"],
)
def test_a_declared_encoding_or_a_mark_does_no_harm(text: str | bytes) -> None:
    assert parse(text).tag == "a"


def test_what_we_do_not_know_survives_an_edit() -> None:
    before = "<thing><!-- why --><x:y xmlns:x='urn:x' z='1'>t</x:y><cpu mode='a' odd='b'/></thing>"
    thing = Thing(parse(before))
    thing.mode = "c"
    thing.name = "n"
    after = etree.tostring(thing.tree, encoding="unicode")
    assert "<!-- why -->" in after
    assert 'z="1">t</x:y>' in after
    assert '<cpu mode="c" odd="b"/>' in after
    assert "<name>n</name>" in after


def test_taking_a_value_away_takes_its_empty_element_too() -> None:
    thing = Thing(parse("<thing><cpu mode='a'/><on/><name>n</name></thing>"))
    thing.mode, thing.is_on, thing.name = "", False, None
    assert len(thing.tree) == 0
    del thing.mode


def test_fields_speak_of_themselves() -> None:
    text = "<thing><name>n</name><on/><count>0</count><memory unit='GiB'>2</memory></thing>"
    assert Thing(parse(text)).facts() == [("Name", "n"), ("On", "yes"), ("Memory", "2 GiB")]


@pytest.mark.parametrize(
    ("unit", "size"),
    [("", 2**10), ("b", 1), ("bytes", 1), ("KB", 1000), ("k", 2**10), ("KiB", 2**10),
     ("MB", 10**6), ("M", 2**20), ("GiB", 2**30), ("T", 2**40), ("PB", 10**15)],
)  # fmt: skip
def test_sizes_have_libvirts_units(unit: str, size: int) -> None:
    attribute = f" unit='{unit}'" if unit else ""
    assert Thing(parse(f"<thing><memory{attribute}>3</memory></thing>")).memory == 3 * size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1536 * 2**20, "1.5 GiB"),
     (2**31, "2 GiB"), (2**60, "1024 PiB")],
)  # fmt: skip
def test_sizes_are_readable(size: int, text: str) -> None:
    assert readable(size) == text
