"""Who is on a network."""

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from kvmweb.models import Machine, Network, Nic
from kvmweb.models.machines import ACTIVE

NAMED = 8


def nics(network: Network) -> QuerySet[Nic]:
    """The interfaces that are plugged into it, now or after their machine's next start."""
    return Nic.objects.filter(host=network.host_id, kind="network", source=network.name)


def machines(network: Network) -> QuerySet[Machine]:
    found = nics(network).values("machine")
    return Machine.objects.filter(pk__in=found).order_by("name", "pk")


def running(network: Network) -> QuerySet[Machine]:
    """Those that lose their connection when it stops."""
    found = nics(network).filter(is_current=True).values("machine")
    return Machine.objects.filter(Q(pk__in=found), state__in=ACTIVE).order_by("name", "pk")


def names(found: QuerySet[Machine]) -> str:
    """As a sentence names them: “web1, web2 and 5 more”."""
    known = list(found.values_list("name", flat=True))
    more = len(known) - NAMED
    if more > 0:
        text = ", ".join(known[:NAMED])
        return _("%(names)s and %(more)d more") % {"names": text, "more": more}
    return ", ".join(known)
