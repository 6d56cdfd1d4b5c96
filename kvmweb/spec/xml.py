"""XML as classes of fields over the parsed tree, so that what we do not know survives an edit.

    class Disk(Element):
        target = Field("target/@dev")

    disk.target = "vda"     # <disk><target dev="vda"/></disk>
    disk.target = None      # the attribute goes, and the element if nothing is left in it

The idea is virt-manager's ``virtinst/xmlbuilder.py``.
"""

from typing import Any, Self

from lxml import etree

# Libvirt itself takes no longer string over its RPC (REMOTE_STRING_MAX / VIR_NET_MESSAGE).
MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 100
Tree = etree._Element  # noqa: SLF001 -- lxml's only name for the type


class XmlError(ValueError):
    """Why a document was not taken, as a sentence; ``line`` is where, 0 if that is not known."""

    def __init__(self, sentence: str, *, line: int = 0) -> None:
        super().__init__(f"Line {line}: {sentence}" if line else sentence)
        self.line = line


def parse(text: str | bytes) -> Tree:
    """The root element. Nothing is fetched or expanded; comments are kept. Raises ``XmlError``."""
    data = _utf8(text)
    if len(data) > MAX_BYTES:
        raise XmlError(f"The document is too long: at most {MAX_BYTES // 2**20} MiB are taken.")
    # A parser of its own for each call: lxml's parsers are not free to share between threads.
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        message = (error.msg or "it is empty").partition(", line ")[0]
        raise XmlError(f"This is not well-formed XML: {message}.", line=error.lineno or 0) from None
    if root.getroottree().docinfo.doctype:
        raise XmlError("A document type (<!DOCTYPE>) is not taken. Remove it.", line=1)
    _check_depth(root)
    return root


def _utf8(text: str | bytes) -> bytes:
    try:
        data = text.encode() if isinstance(text, str) else text.decode("utf-8-sig").encode()
    except UnicodeError:
        raise XmlError("The document is not UTF-8 text. Save it as UTF-8.") from None
    return data.strip()


def _check_depth(root: Tree) -> None:
    depth = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH:
            line = element.sourceline or 0
            raise XmlError(f"Elements are nested deeper than {MAX_DEPTH} levels.", line=line)


def text_of(tree: Tree) -> str:
    """The document as libvirt prints it: two blanks per level, no declaration."""
    etree.indent(tree, "  ")
    return etree.tostring(tree, encoding="unicode", with_tail=False) + "\n"


class Element:
    """An element of a document; subclasses name its fields."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    @classmethod
    def new(cls, tag: str, **fields: Any) -> Self:
        """A fresh element with these fields set, in the order given."""
        made = cls(etree.Element(tag))
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    def facts(self) -> list[tuple[str, str]]:
        """Label and value of the fields that have a label and say something."""
        fields = [field for cls in type(self).__mro__ for field in vars(cls).values()]
        labelled = [field for field in fields if isinstance(field, Field) and field.label]
        return [(field.label, text) for field in labelled if (text := field.shown(self))]


class Field:
    """A text at ``path``: ``name``, ``cpu/@mode``, ``os/boot/@dev``; the first that matches.

    Those with a label are what a page shows of the element.
    """

    def __init__(self, path: str, label: str = "") -> None:
        self.path, _, self.attribute = path.partition("@")
        self.path = self.path.rstrip("/")
        self.label = label

    def shown(self, element: Element) -> str:
        """The value as a person reads it; empty where there is nothing to say."""
        return str(self.__get__(element, type(element)))

    def _find(self, tree: Tree) -> Tree | None:
        return tree.find(self.path) if self.path else tree

    def __get__(self, element: Element, owner: type) -> str:
        found = self._find(element.tree)
        if found is None:
            return ""
        return (found.get(self.attribute) if self.attribute else (found.text or "").strip()) or ""

    def __set__(self, element: Element, value: object) -> None:
        if value is None or value == "":
            self.__delete__(element)
            return
        found = make(element.tree, self.path)
        if self.attribute:
            found.set(self.attribute, str(value))
        else:
            found.text = str(value)

    def __delete__(self, element: Element) -> None:
        found = self._find(element.tree)
        if found is None:
            return
        if self.attribute:
            found.attrib.pop(self.attribute, None)
        else:
            found.text = None
        prune(found, element.tree)


def make(tree: Tree, path: str) -> Tree:
    for tag in path.split("/") if path else ():
        found = tree.find(tag)
        tree = found if found is not None else etree.SubElement(tree, tag)
    return tree


def prune(tree: Tree, root: Tree) -> None:
    """Remove the element and its ancestors below ``root`` while there is nothing in them."""
    while tree is not root and not (len(tree) or tree.attrib or (tree.text or "").strip()):
        parent = tree.getparent()
        assert parent is not None
        parent.remove(tree)
        tree = parent


class Flag(Field):
    """Whether the element at ``path`` is there: ``<readonly/>``."""

    def __get__(self, element: Element, owner: type) -> bool:  # type: ignore[override]
        return self._find(element.tree) is not None

    def shown(self, element: Element) -> str:
        return "yes" if self.__get__(element, type(element)) else ""

    def __set__(self, element: Element, value: object) -> None:
        if value:
            make(element.tree, self.path)
        else:
            for found in element.tree.findall(self.path):
                _remove(found)


def _remove(tree: Tree) -> None:
    parent = tree.getparent()
    if parent is not None:
        parent.remove(tree)


class Number(Field):
    """A whole number; 0 where there is none."""

    def __get__(self, element: Element, owner: type) -> int:  # type: ignore[override]
        text = super().__get__(element, owner)
        return int(text) if text.isascii() and text.isdigit() else 0

    def shown(self, element: Element) -> str:
        return str(self.__get__(element, type(element)) or "")


# https://libvirt.org/formatdomain.html#memory-allocation: KB is 10^3, KiB, K and k are 2^10.
_UNITS: dict[str, int] = {"b": 1, "bytes": 1} | {
    name: base**power
    for power, letter in enumerate("kmgtpe", start=1)
    for name, base in ((letter, 1024), (f"{letter}ib", 1024), (f"{letter}b", 1000))
}


class Size(Number):
    """A scaled integer with an ``unit`` attribute, in bytes; ``default`` is libvirt's for it."""

    def __init__(self, path: str, label: str = "", *, default: str = "KiB") -> None:
        super().__init__(path, label)
        self.default = default

    def shown(self, element: Element) -> str:
        size = self.__get__(element, type(element))
        return readable(size) if size else ""

    def __get__(self, element: Element, owner: type) -> int:  # type: ignore[override]
        found = self._find(element.tree)
        unit = found.get("unit", self.default) if found is not None else self.default
        return super().__get__(element, owner) * _UNITS.get(unit.lower(), 1024)

    def __set__(self, element: Element, value: object) -> None:
        """Written in KiB, libvirt's own unit for memory, or in bytes."""
        size = int(str(value))
        found = make(element.tree, self.path)
        found.set("unit", self.default)
        found.text = str(size // _UNITS[self.default.lower()])


def readable(size_bytes: int) -> str:
    """In the largest unit that leaves a whole part: 512 MiB, 1.5 GiB."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(max(size_bytes.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{size_bytes / 1024**power:.1f}".removesuffix(".0") + f" {units[power]}"
