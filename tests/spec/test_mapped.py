"""Models that know where their fields are in the XML."""

from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from kvmweb.spec.mapped import At, Each, Mapped, One, element_at, raw, read, write
from kvmweb.spec.xml import parse, text_of


class Port(Mapped):
    name: Annotated[str, At("@name")]
    speed: Annotated[int | None, At("speed/@mbit")] = None

    def known_by(self) -> tuple[Any, ...]:
        return (self.name,)


class Lamp(Mapped):
    is_on: Annotated[bool, At("@on", yes="on", no="")] = False


class Switch(Mapped):
    name: Annotated[str, At("name")] = ""
    is_managed: Annotated[bool, At("@managed")] = True
    domain: Annotated[str, At("domain/@name", is_whole=True)] = ""
    ports: Annotated[list[Port], Each("ports/port")] = []
    notes: Annotated[list[str], Each("note", "")] = []
    lamp: Annotated[Lamp | None, One("lamp")] = None


XML = """<switch odd="1">
  <name>s1</name>
  <domain name="lab" local="yes"/>
  <ports count="2">
    <port name="a" colour="red"/>
    <port name="b"><speed mbit="100" duplex="full"/></port>
  </ports>
  <note>one</note>
</switch>"""


def _written(**fields: Any) -> str:
    tree = parse(XML)
    write(read(Switch, tree).model_copy(update=fields), tree)
    return text_of(tree)


def test_it_is_read() -> None:
    switch = read(Switch, parse(XML))
    assert (switch.name, switch.is_managed, switch.domain) == ("s1", True, "lab")
    assert [(port.name, port.speed) for port in switch.ports] == [("a", None), ("b", 100)]
    assert (switch.notes, switch.lamp) == (["one"], None)


def test_what_is_missing_is_not_said() -> None:
    assert raw(Switch, parse("<switch/>")) == {"ports": [], "notes": []}


def test_writing_the_same_touches_nothing() -> None:
    assert _written() == text_of(parse(XML))


def test_only_what_differs_is_touched() -> None:
    text = _written(is_managed=False, name="s2")
    assert '<switch odd="1" managed="no">' in text
    assert "<name>s2</name>" in text
    assert 'colour="red"' in text


def test_an_element_that_is_nothing_without_a_field_goes_with_it() -> None:
    assert "<domain" not in _written(domain="")


def test_an_entry_is_known_again_by_its_key() -> None:
    text = _written(ports=[Port(name="b", speed=1000), Port(name="c")])
    assert 'mbit="1000" duplex="full"' in text
    assert "colour" not in text
    assert text.index('name="b"') < text.index('name="c"')
    assert 'count="2"' in text


def test_lists_of_texts_are_written() -> None:
    assert "<note>one</note>\n  <note>two</note>" in _written(notes=["one", "two"])
    assert "<note" not in _written(notes=[])


def test_a_part_comes_and_goes() -> None:
    assert '<lamp on="on"/>' in _written(lamp=Lamp(is_on=True))
    tree = parse("<switch><lamp on='on'/></switch>")
    write(Switch(), tree)
    assert len(tree) == 0


def test_a_finding_leads_to_its_element() -> None:
    tree = parse(XML)
    with pytest.raises(ValidationError) as error:
        read(Switch, parse(XML.replace("100", "fast")))
    place = ".".join(str(part) for part in error.value.errors()[0]["loc"])
    assert element_at(Switch, tree, place).sourceline == 6
    assert element_at(Switch, tree, "ports.9.name") is tree
    assert element_at(Switch, tree, "nonsense") is tree
