"""By which addresses people reach the site, where it runs on the host whose network it changes."""

from urllib.parse import urlsplit

from django.conf import settings

from kvmweb.models import Host, HostNetwork

# Kinds of links that lead out of the host.
_OUTWARD = ("physical", "bond", "vlan")


def addresses_of_site(host: Host) -> list[str]:
    """Of a remote host none: there ssh says itself which way it came. Where the site listens on
    every address of this host, those that lead out of it.
    """
    if urlsplit(host.uri).hostname:
        return []
    bound = settings.BIND.rpartition(":")[0].strip("[]")
    if bound not in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound to
        return [bound]
    links = [one for one in HostNetwork.of(host).actual.get("links", []) if not one["namespace"]]
    outward = {one["name"] for one in links if one["kind"] in _OUTWARD}
    outward |= {one["master"] for one in links if one["name"] in outward and one["master"]}
    return [
        address.partition("/")[0]
        for one in links
        if one["name"] in outward
        for address in one["addresses"]
    ]
