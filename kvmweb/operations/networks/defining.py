"""Libvirt's calls for a network's document, and whom to blame for what it does not like in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import libvirt
from pydantic import ValidationError

from kvmweb.operations.networks.checks import beyond_fields
from kvmweb.spec.blame import blamed
from kvmweb.spec.network import NetworkDocument, document_of
from kvmweb.spec.xml import XmlError
from kvmweb.virt.errors import OperationError, explain

# What an older libvirt, or another driver, does not know.
_LACKING = (
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
)


def definition(net: libvirt.virNetwork) -> str:
    """The document of the next start."""
    try:
        xml: str = net.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _LACKING:
            raise
        xml = net.XMLDesc()  # the test driver
    return xml


def fields(net: libvirt.virNetwork) -> NetworkDocument:
    """The same as fields. Raises ``OperationError`` where they can't say it."""
    try:
        return document_of(definition(net))
    except (XmlError, ValidationError):
        raise OperationError(beyond_fields()) from None


def define(opened: libvirt.virConnect, xml: str) -> libvirt.virNetwork:
    """Checked against libvirt's schema where this libvirt can do that."""
    try:
        return opened.networkDefineXMLFlags(xml, libvirt.VIR_NETWORK_DEFINE_VALIDATE)
    except (AttributeError, libvirt.libvirtError) as error:
        is_lacking = isinstance(error, AttributeError) or error.get_error_code() in _LACKING
        if not is_lacking:
            raise
    return opened.networkDefineXML(xml)


@contextmanager
def at_field(xml: str, field: str) -> Iterator[None]:
    """Around what libvirt does with a document: its complaint names the field, or the line of the
    XML as the person wrote it.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        message = error.get_error_message() or ""
        sentence = explain(error).sentence
        if field != "xml":
            field = _blamed(message, field)
        elif sentence.startswith("Libvirt says"):
            sentence = str(blamed(xml, message))
        raise OperationError(sentence, field=field, detail=message) from error


def _blamed(message: str, otherwise: str) -> str:
    """The field of a form that libvirt's message is about."""
    fields = {
        "already in use by interface": "ips.0.address",
        "bridge name": "bridge",
        "dnsmasq: ": "dnsmasq_options",
        "tc qdisc": "inbound",
    }
    return next((field for words, field in fields.items() if words in message), otherwise)
