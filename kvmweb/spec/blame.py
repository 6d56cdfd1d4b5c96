"""Where in a document libvirt's complaint is about, and its schema's complaints in words.

Libvirt says neither: "Element network has extra content: frward".
"""

import re
from collections.abc import Iterator

from kvmweb.spec.xml import Tree, XmlError, parse

_EXTRA = re.compile(r"Element (\S+) has extra content: (\S+)")
_ATTRIBUTE = re.compile(r"Invalid attribute (\S+) for element (\S+)")
_CONTENT = re.compile(r"Element (\S+) failed to validate (?:content|attributes)")
_QUOTED = re.compile(r"['‘“]([^'’”]+)['’”]")


def blamed(xml: str, message: str) -> XmlError:
    """The message as a sentence, with the line of what it is about where that can be told."""
    return XmlError(_sentence(message), line=line_of(xml, message))


def line_of(xml: str, message: str) -> int:
    """Of the text without blank lines before it; 0 where not just one place fits the message."""
    try:
        root = parse(xml)
    except XmlError as error:
        return error.line
    for found in (_by_schema(root, message), _by_value(root, message)):
        if len(found) == 1:
            return int(found[0].sourceline or 0)
    return 0


def _by_schema(root: Tree, message: str) -> list[Tree]:
    if extra := _EXTRA.search(message):
        return [one for one in _named(root, extra[2]) if _local(one.getparent()) == extra[1]]
    if attribute := _ATTRIBUTE.search(message):
        return [one for one in _named(root, attribute[2]) if attribute[1] in one.attrib]
    if content := _CONTENT.search(message):
        return list(_named(root, content[1]))
    return []


def _by_value(root: Tree, message: str) -> list[Tree]:
    """Elements that say one of the words the message quotes."""
    for word in _QUOTED.findall(message):
        found = [one for one in _elements(root) if word in (_text(one), *one.attrib.values())]
        if found:
            return found
    return []


def _elements(root: Tree) -> Iterator[Tree]:
    return (one for one in root.iter() if isinstance(one.tag, str))


def _named(root: Tree, name: str) -> Iterator[Tree]:
    return (one for one in _elements(root) if _local(one) == name)


def _local(element: Tree | None) -> str:
    return "" if element is None else str(element.tag).rpartition("}")[2]


def _text(element: Tree) -> str:
    return (element.text or "").strip()


def _sentence(message: str) -> str:
    if extra := _EXTRA.search(message):
        return f"<{extra[2]}> does not belong there, in <{extra[1]}>."
    if attribute := _ATTRIBUTE.search(message):
        return (
            f"“{attribute[1]}” of <{attribute[2]}> has a value that is not allowed, or does not "
            "belong there."
        )
    if content := _CONTENT.search(message):
        return f"Something in <{content[1]}> is missing, or not as libvirt takes it."
    return f"Libvirt says: {' '.join(message.split())}"
