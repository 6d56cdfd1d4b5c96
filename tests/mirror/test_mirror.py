"""The mirror on libvirt's own test driver."""

import libvirt
import pytest

from kvmweb.mirror import look_again
from kvmweb.models import Machine, Network, NodeDevice, Pool, State, Volume
from tests.conftest import Stage
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

NEW = """
<domain type="test"><name>new &lt;one&gt; ü</name><memory>65536</memory><os><type>hvm</type></os>
<metadata><mine xmlns="urn:mine" kept="yes"/></metadata></domain>
"""


def test_it_mirrors_everything_at_the_first_connection(agent: Stage) -> None:
    web1 = agent.machine()
    assert (web1.title, web1.vcpus, web1.memory_kib) == ("The shop", 2, 524288)
    assert (web1.state, web1.graphics, web1.is_persistent) == (State.RUNNING, "vnc", True)
    network = Network.objects.get()
    assert (network.forward_mode, network.bridge, network.is_active) == ("nat", "virbr0", True)
    assert Pool.objects.get().target_path == "/pool"
    volume = Volume.objects.get()
    assert (volume.path, volume.format) == ("/pool/web1.qcow2", "qcow2")
    assert NodeDevice.objects.filter(host=agent.host).exists()
    assert agent.host.driver == "TEST"


def test_it_keeps_the_document_whole(agent: Stage) -> None:
    dom = agent.connection.lookupByName("web1")
    assert agent.machine().xml == dom.XMLDesc()
    assert agent.machine().inactive_xml == dom.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


def test_it_hears_a_machine_being_defined_and_undefined(agent: Stage) -> None:
    dom = agent.connection.defineXML(NEW)
    machine = until(lambda: Machine.objects.filter(uuid=dom.UUIDString()).first())
    assert machine.name == "new <one> ü"
    assert 'kept="yes"' in machine.xml
    assert machine.state == State.SHUTOFF
    dom.undefine()
    until(lambda: not Machine.objects.filter(pk=machine.pk).exists())


def test_it_hears_every_change_of_state(agent: Stage) -> None:
    dom = agent.connection.lookupByName("web1")
    for act, state in [
        (dom.suspend, State.PAUSED),
        (dom.resume, State.RUNNING),
        (dom.destroy, State.SHUTOFF),
        (dom.create, State.RUNNING),
    ]:
        act()
        until(lambda state=state: agent.machine().state == state)


def test_it_hears_networks_and_pools(agent: Stage) -> None:
    agent.connection.networkLookupByName("default").destroy()
    until(lambda: not Network.objects.get().is_active)
    pool = agent.connection.storagePoolLookupByName("images")
    pool.destroy()
    until(lambda: not Pool.objects.get().is_active)
    until(lambda: not Volume.objects.exists())
    pool.undefine()
    until(lambda: not Pool.objects.exists())


def test_it_looks_again_when_told_of_a_change_without_an_event(agent: Stage) -> None:
    agent.connection.lookupByName("db1").setAutostart(1)
    look_again(agent.host.pk, "machine", str(agent.machine("db1").uuid))
    until(lambda: agent.machine("db1").is_autostart)


def test_it_writes_nothing_where_nothing_differs(agent: Stage) -> None:
    before = agent.machine().changed
    agent.connection.lookupByName("db1").setAutostart(1)
    look_again(agent.host.pk, "everything")
    until(lambda: agent.machine("db1").is_autostart)
    assert agent.machine().changed == before


def test_it_reads_everything_again_after_a_reconnect(agent: Stage) -> None:
    agent.connection.lookupByName("db1").destroy()
    until(lambda: agent.machine("db1").state == State.SHUTOFF)
    # The test driver makes its world anew for each connection: in the new one db1 runs.
    agent.host.generation += 1
    agent.host.save(update_fields=["generation"])
    agent.agent.wake()
    until(lambda: agent.machine("db1").state == State.RUNNING)
