"""The security groups of a NIC, where a page shows that NIC."""

from typing import Any

from django import template
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from kvmweb.models import Nic, SecurityGroup
from kvmweb.models.access import NETWORKS, may
from kvmweb.models.filters import memberships

register = template.Library()


@register.simple_tag(takes_context=True)
def security_groups_of(context: Any, nic: Nic) -> SafeString:
    """A row of its facts: the groups, and the button that changes them."""
    names, is_prevented = memberships([nic])[nic.pk]
    return SafeString(
        render_to_string(
            "security_groups/_of_nic.html",
            {
                "nic": nic,
                "groups": SecurityGroup.objects.filter(name__in=names),
                "is_spoofing_prevented": is_prevented,
                "may_change": may(context["request"].user, NETWORKS),
            },
        )
    )
