"""The wizard's pages: what is asked, what is kept, and where each sentence shows."""

import re
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse

from kvmweb.models import (
    Host,
    HostState,
    Job,
    Machine,
    Network,
    Pool,
    State,
    User,
)

pytestmark = pytest.mark.django_db
URL = "/machines/create"
DOMAIN_XML = "<domain type='qemu'><name>{}</name><memory>1024</memory></domain>"


@pytest.fixture
def host(db: None) -> Host:
    return Host.objects.create(
        name="local",
        uri="qemu:///system",
        state=HostState.CONNECTED,
        driver="QEMU",
        architecture="x86_64",
        cpus=4,
        memory_kib=8 * 2**20,
    )


@pytest.fixture
def pool(host: Host) -> Pool:
    pool = Pool.objects.create(
        host=host,
        uuid="33333333-0000-4000-8000-000000000001",
        name="images",
        type="dir",
        is_active=True,
        target_path="/pool",
        available_bytes=50 * 2**30,
        xml="<pool/>",
    )
    for name, format_ in (("debian.iso", "iso"), ("web.qcow2", "qcow2"), ("old.raw", "raw")):
        pool.volumes.create(name=name, path=f"/pool/{name}", format=format_, xml="<volume/>")
    return pool


@pytest.fixture
def page(client: Client, alice: User, host: Host) -> Client:
    client.force_login(alice)
    return client


def _get(page: Client, **data: str) -> str:
    answer = page.get(URL, data)
    assert answer.status_code == 200
    return unescape(answer.content.decode())


def _post(page: Client, **data: str) -> tuple[int, str]:
    answer = page.post(URL, {"create": "1", **data})
    return answer.status_code, unescape(answer.content.decode())


def _step(html: str) -> str:
    found = re.search(r'aria-current="step"\s*>\s*<span>([^<]+)', html)
    assert found
    return found[1]


def test_the_first_step_offers_every_source(page: Client) -> None:
    html = _get(page)
    assert _step(html) == "Operating system"
    assert re.findall(r'name="source" value="(\w+)"', html) == [
        "tiny", "iso", "import", "pxe", "blank", "xml",
    ]  # fmt: skip
    assert 'name="host"' not in html, "one host is no choice"


def test_a_host_is_asked_for_where_there_are_two(page: Client, host: Host) -> None:
    Host.objects.create(name="other", uri="test:///default")
    html = _get(page, host="local")
    assert re.search(r'<option value="local" selected>', html)
    assert "other (connecting)" in html


def test_the_tiny_guest_needs_no_questions(page: Client) -> None:
    html = _get(page, source="tiny")
    assert _step(html) == "Ready"
    assert 'id="name" name="name" value="tiny1"' in html
    assert "128 MiB" in html
    assert "without KVM" not in html or "alert" in html
    assert 'value="tiny"' in html, "the source goes on with the form"


def test_next_leads_on_from_the_first_step(page: Client) -> None:
    assert 'name="step" value="onward"' in _get(page)
    html = _get(page, step="onward")
    assert _step(html) == "Operating system"
    assert "Choose where the operating system comes from." in html
    steps = {"tiny": "Ready", "iso": "Media", "pxe": "Memory and CPUs", "xml": "XML"}
    for source, step in steps.items():
        assert _step(_get(page, step="onward", source=source)) == step


def test_no_token_gets_into_an_address(page: Client) -> None:
    middle = _get(page, source="blank", step="storage").partition('id="create-form"')[2]
    assert "csrfmiddlewaretoken" not in middle
    last = _get(page, source="blank", step="ready").partition('id="create-form"')[2]
    assert "csrfmiddlewaretoken" in last
    assert 'method="post" novalidate' in last


def test_what_was_typed_goes_on_through_the_steps(page: Client, pool: Pool) -> None:
    typed = {"source": "iso", "iso": "/pool/debian.iso", "memory_mib": "3000", "vcpus": "3"}
    html = _get(page, step="storage", **typed)
    assert _step(html) == "Storage"
    for name, value in typed.items():
        assert f'<input type="hidden" name="{name}" value="{value}">' in html
    html = _get(page, step="resources", storage="new", disk_gib="33", **typed)
    assert 'name="memory_mib" value="3000"' in html
    assert '<input type="hidden" name="disk_gib" value="33">' in html


@pytest.mark.parametrize(
    ("typed", "step", "sentence"),
    [
        ({"source": ""}, "Operating system", "Choose where the operating system comes from."),
        ({"source": "iso"}, "Media", "Choose an ISO image, or enter its path on the host."),
        ({"source": "iso", "iso": "debian"}, "Media", "Enter the whole path on the host"),
        ({"source": "import"}, "Media", "Choose a disk image, or enter its path on the host."),
        ({"source": "blank", "memory_mib": "0"}, "Memory and CPUs", "Enter 16 or more."),
        ({"source": "blank", "memory_mib": ""}, "Ready", ""),
        ({"source": "blank", "memory_mib": "viele"}, "Memory and CPUs", "Enter a whole number."),
        ({"source": "blank", "memory_mib": "99999"}, "Memory and CPUs", "The host has 8192 MiB"),
        ({"source": "tiny", "memory_mib": "64"}, "Memory and CPUs", "needs 96 MiB or more"),
        ({"source": "blank", "vcpus": "0"}, "Memory and CPUs", "Enter 1 or more."),
        ({"source": "blank", "disk_gib": "-1"}, "Storage", "Enter 0 or more."),
        ({"source": "blank", "storage": "existing"}, "Storage", "Choose a disk image"),
        ({"source": "blank", "pool": "gone"}, "Storage", "There is no storage pool “gone”"),
    ],
)
def test_nobody_gets_past_a_wrong_value(
    page: Client, pool: Pool, typed: dict[str, str], step: str, sentence: str
) -> None:
    html = _get(page, step="ready", **typed)
    assert _step(html) == step
    assert sentence in html


def test_the_storage_pools_images_are_offered(page: Client, pool: Pool) -> None:
    Machine.objects.create(
        host=pool.host,
        uuid="11111111-0000-4000-8000-000000000001",
        name="web1",
        state=State.SHUTOFF,
        xml="<domain><devices><disk><source file='/pool/web.qcow2'/></disk></devices></domain>",
    )
    isos = _get(page, source="iso", step="media")
    assert re.findall(r'name="pick" value="([^"]+)"', isos) == ["/pool/debian.iso"]
    disks = _get(page, source="import", step="media")
    assert re.findall(r'name="pick" value="([^"]+)"', disks) == ["/pool/old.raw", "/pool/web.qcow2"]
    assert "used by web1" in disks
    filtered = _get(page, fragment="volumes", pick_for="disk_path", disk_path="OLD")
    assert re.findall(r'name="pick" value="([^"]+)"', filtered) == ["/pool/old.raw"]


def test_picking_an_image_goes_on_to_the_next_step(page: Client, pool: Pool) -> None:
    html = _get(
        page, source="iso", iso="deb", pick="/pool/debian.iso", pick_for="iso", after="resources"
    )
    assert _step(html) == "Memory and CPUs"
    assert '<input type="hidden" name="iso" value="/pool/debian.iso">' in html


def test_the_last_step_shows_the_document_and_the_command(page: Client, pool: Pool) -> None:
    Network.objects.create(
        host=pool.host,
        uuid="22222222-0000-4000-8000-000000000001",
        name="default",
        is_active=True,
        forward_mode="nat",
        xml="<network/>",
    )
    html = _get(page, source="blank", step="ready", name="a <b> & “c”")
    text = re.sub(r"<[^>]+>", "", page.get(URL, {
        "source": "blank", "fragment": "preview", "name": "a <b> & “c”"
    }).content.decode())  # fmt: skip
    assert "Virtual network “default”: NAT" in html
    assert "&amp;lt;name&amp;gt;" not in text
    assert "/pool/a-b-c.qcow2" in text
    assert "--name &#x27;a &lt;b&gt; &amp; “c”&#x27;" in text
    assert "without KVM" in text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a/b", "A name can't contain “/”."),
        ("x" * 241, "The name is too long"),
        ("€" * 90, "The name is too long"),
        ("a\u0000b", "can't be seen"),
        ("a\u202eb", "can't be seen"),
        ("a\nb", "one line"),
        ("web1", "A machine with the name “web1” is already there."),
    ],
)
def test_a_bad_name_is_told_at_its_field(
    page: Client, host: Host, name: str, sentence: str
) -> None:
    Machine.objects.create(
        host=host, uuid="11111111-0000-4000-8000-000000000001", name="web1",
        state=State.SHUTOFF, xml="<domain/>",
    )  # fmt: skip
    status, html = _post(page, source="tiny", name=name)
    assert status == 422
    assert _step(html) == "Ready"
    assert sentence in html
    assert 'aria-describedby="error-name"' in html
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        ("", "Paste"),
        ("<domain", "Line 1: This is not well-formed XML"),
        ("<network/>", "This is a <network>."),
        ("<domain><name>a</name></domain>", "The hypervisor is missing"),
        ("<domain type='qemu'/>", "The machine has no name"),
        ("<domain type='qemu'><name>a/b</name></domain>", "A name can't contain “/”."),
        ("<domain type='qemu'><name>a</name><uuid>1</uuid></domain>", "“1” is not a UUID."),
        ("<!DOCTYPE d [<!ENTITY e 'x'>]><domain type='qemu'><name>&e;</name></domain>", "DOCTYPE"),
        ("<domain>" + " " * (4 * 2**20) + "</domain>", "too long: at most 4 MiB"),
    ],
)
def test_a_bad_document_is_told_at_its_field(page: Client, xml: str, sentence: str) -> None:
    status, html = _post(page, source="xml", xml=xml)
    assert status == 422
    assert _step(html) == "XML"
    assert sentence in html
    assert not Job.objects.exists()


def test_a_pasted_document_survives_the_way_back(page: Client) -> None:
    xml = DOMAIN_XML.format("back")
    answer = page.post(URL, {"source": "xml", "xml": xml, "step": "source"})
    html = unescape(answer.content.decode())
    assert _step(html) == "Operating system"
    assert f'<input type="hidden" name="xml" value="{xml}">' in html
    assert 'method="post"' in html


def test_create_asks_for_the_operation_and_shows_the_job_while_it_runs(
    page: Client, host: Host
) -> None:
    answer = page.post(URL, {"create": "1", "source": "xml", "xml": DOMAIN_XML.format("slow")})
    job = Job.objects.get()
    assert job.kind == "machines.create"
    assert job.host == host
    assert answer.status_code == 302
    # The job's page goes on to the machine by itself once that is made.
    assert answer["Location"] == reverse("job", args=[job.pk]) + "?then=machine"
    again = page.post(URL, {"create": "1", "source": "xml", "xml": DOMAIN_XML.format("slow")})
    assert again["Location"] == answer["Location"], "a second press is the same wish"
    assert Job.objects.count() == 1


@pytest.mark.parametrize("name", ["bob", "victor", "charlie"])
def test_those_who_may_not_create_are_told_so(
    client: Client, host: Host, name: str, request: pytest.FixtureRequest
) -> None:
    client.force_login(request.getfixturevalue(name))
    for answer in (client.get(URL), client.post(URL, {"create": "1", "source": "tiny"})):
        assert answer.status_code == 403
        assert "You are not allowed to create machines." in answer.content.decode()
    assert not Job.objects.exists()


def test_without_a_host_it_says_what_to_do(client: Client, alice: User) -> None:
    client.force_login(alice)
    html = client.get(URL).content.decode()
    assert "There is no host yet" in html
    assert reverse("host_add") in html


def test_an_unknown_host_is_not_found(page: Client) -> None:
    assert page.get(URL, {"host": "nowhere"}).status_code == 404
