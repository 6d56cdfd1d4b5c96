"""The table of contents of the site."""

from django.urls import include, path
from django.views.generic import RedirectView

from kvmweb.api.root import api
from kvmweb.web import (
    accounts,
    consoles,
    creation,
    filters,
    health,
    hosts,
    jobs,
    machines,
    nics,
    security_groups,
    storage,
    users,
)
from kvmweb.web.hostnet import editor as hostnet_editor
from kvmweb.web.hostnet import forms as hostnet_forms
from kvmweb.web.hostnet import pages as hostnet_pages
from kvmweb.web.hostnet import plans as hostnet_plans
from kvmweb.web.networks import forms as network_forms
from kvmweb.web.networks import pages as networks

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="machines"), name="home"),
    path("healthz", health.page, name="healthz"),
    path("accounts/", include("allauth.account.urls")),
    path("account/", accounts.page, name="account"),
    path("account/tokens/add", accounts.add_token, name="token_add"),
    path("account/tokens/<int:pk>/remove", accounts.remove_token, name="token_remove"),
    path("users/", users.index, name="users"),
    path("users/add", users.add, name="user_add"),
    path("users/<int:pk>", users.edit, name="user"),
    path("machines/", machines.index, name="machines"),
    path("machines/create", creation.wizard, name="machine_create"),
    path("machines/<uuid:uuid>", machines.page, name="machine"),
    path("machines/<uuid:uuid>/console", machines.page, {"tab": "console"}, name="machine_console"),
    path(
        "machines/<uuid:uuid>/hardware", machines.page, {"tab": "hardware"}, name="machine_hardware"
    ),
    path("machines/<uuid:uuid>/xml", machines.page, {"tab": "xml"}, name="machine_xml"),
    path("machines/<uuid:uuid>/jobs", machines.page, {"tab": "jobs"}, name="machine_jobs"),
    path("machines/<uuid:uuid>/screen", consoles.page, name="console"),
    path("machines/<uuid:uuid>/ticket", consoles.ticket, name="console_ticket"),
    path("machines/<uuid:uuid>/do/<slug:name>", machines.operate, name="machine_operate"),
    path("machines/<uuid:uuid>/nics/add", nics.add, name="nic_add"),
    path("machines/<uuid:uuid>/nics/<str:key>/edit", nics.edit, name="nic_edit"),
    path("machines/<uuid:uuid>/nics/<str:key>/remove", nics.remove, name="nic_remove"),
    path("machines/<uuid:uuid>/nics/<str:key>/link", nics.link, name="nic_link"),
    path("hosts/", hosts.index, name="hosts"),
    path("hosts/add", hosts.add, name="host_add"),
    path("hosts/<int:pk>", hosts.page, name="host"),
    path("hosts/<int:pk>/devices", hosts.page, {"tab": "devices"}, name="host_devices"),
    path("hosts/<int:pk>/xml", hosts.page, {"tab": "xml"}, name="host_xml"),
    path("hosts/<int:pk>/do/<slug:name>", hosts.operate, name="host_operate"),
    path("hosts/<int:pk>/network", hostnet_pages.section, name="host_network"),
    path("hosts/<int:pk>/network/banner", hostnet_pages.banner, name="hostnet_banner"),
    path("hosts/<int:pk>/network/form", hostnet_forms.form, name="hostnet_form"),
    path("hosts/<int:pk>/network/delete", hostnet_forms.delete, name="hostnet_delete"),
    path("hosts/<int:pk>/network/offload", hostnet_forms.offload, name="hostnet_offload"),
    path("hosts/<int:pk>/network/edit", hostnet_editor.editor, name="hostnet_editor"),
    path("hosts/<int:pk>/network/export", hostnet_pages.export, name="hostnet_export"),
    path("hosts/<int:pk>/network/plans/<uuid:job>", hostnet_plans.plan, name="hostnet_plan"),
    path(
        "hosts/<int:pk>/network/plans/<uuid:job>/apply", hostnet_plans.apply, name="hostnet_apply"
    ),
    path(
        "hosts/<int:pk>/network/plans/<uuid:job>/again",
        hostnet_plans.replan,
        name="hostnet_replan",
    ),
    path("hosts/<int:pk>/network/changes/<uuid:key>", hostnet_pages.change, name="hostnet_change"),
    path("hosts/<int:pk>/network/do/<slug:name>", hostnet_pages.operate, name="hostnet_operate"),
    path("hosts/<int:pk>/network/ask/<slug:name>", hostnet_pages.ask, name="hostnet_ask"),
    path("hosts/<int:pk>/network/answers/<uuid:job>", hostnet_pages.answer, name="hostnet_answer"),
    path(
        "hosts/<int:pk>/network/<slug:section>", hostnet_pages.section, name="host_network_section"
    ),
    path("networks/", networks.index, name="networks"),
    path("networks/create", network_forms.create, name="network_create"),
    path("networks/<uuid:uuid>", networks.page, name="network"),
    path("networks/<uuid:uuid>/leases", networks.page, {"tab": "leases"}, name="network_leases"),
    path(
        "networks/<uuid:uuid>/forwards", networks.page, {"tab": "forwards"}, name="network_forwards"
    ),
    path("networks/<uuid:uuid>/dns", networks.page, {"tab": "dns"}, name="network_dns"),
    path(
        "networks/<uuid:uuid>/portgroups",
        networks.page,
        {"tab": "portgroups"},
        name="network_portgroups",
    ),
    path("networks/<uuid:uuid>/xml", networks.page, {"tab": "xml"}, name="network_xml"),
    path("networks/<uuid:uuid>/jobs", networks.page, {"tab": "jobs"}, name="network_jobs"),
    path("networks/<uuid:uuid>/edit", network_forms.edit, name="network_edit"),
    path("networks/<uuid:uuid>/do/<slug:name>", networks.operate, name="network_operate"),
    path("networks/filters/", filters.index, name="filters"),
    path("networks/filters/add", filters.add, name="filter_add"),
    path("networks/filters/<uuid:uuid>", filters.page, name="filter"),
    path("networks/filters/<uuid:uuid>/users", filters.page, {"tab": "users"}, name="filter_users"),
    path("networks/filters/<uuid:uuid>/xml", filters.page, {"tab": "xml"}, name="filter_xml"),
    path("networks/filters/<uuid:uuid>/do/<slug:name>", filters.operate, name="filter_operate"),
    path(
        "networks/filters/hosts/<int:pk>/do/<slug:name>",
        filters.operate_host,
        name="filter_host_operate",
    ),
    path("networks/groups/", security_groups.index, name="security_groups"),
    path("networks/groups/add", security_groups.add, name="security_group_add"),
    path("networks/groups/<uuid:uuid>", security_groups.page, name="security_group"),
    path(
        "networks/groups/<uuid:uuid>/nics",
        security_groups.page,
        {"tab": "nics"},
        name="security_group_nics",
    ),
    path(
        "networks/groups/<uuid:uuid>/filter",
        security_groups.page,
        {"tab": "filter"},
        name="security_group_filter",
    ),
    path(
        "networks/groups/<uuid:uuid>/attach", security_groups.attach, name="security_group_attach"
    ),
    path(
        "networks/groups/<uuid:uuid>/do/<slug:name>",
        security_groups.operate,
        name="security_group_operate",
    ),
    path(
        "machines/<uuid:uuid>/security_groups/<slug:name>",
        security_groups.of_nic,
        name="nic_security_groups",
    ),
    path("storage/", storage.index, name="storage"),
    path("storage/<uuid:uuid>", storage.page, name="pool"),
    path("jobs/", jobs.index, name="jobs"),
    path("jobs/panel", jobs.panel, name="jobs_panel"),
    path("jobs/<uuid:pk>", jobs.page, name="job"),
    path("jobs/<uuid:pk>/cancel", jobs.cancel, name="job_cancel"),
    path("api/v1/", api.urls),
]
