"""The host's own network: read, planned, applied, confirmed, undone.

What runs on the host is pure Python (3.10 or newer) with pyroute2, ovs and ovsdbapp and nothing of
Django, pydantic or lxml, for it is shipped to hosts that have python3, ssh and sudo only.

    context.py    netlink sockets by namespace and the connection to OVSDB, opened at first use
    step.py       Step, the table of actions, the ranks
    links.py      links, addresses, routes, Linux bridges and their ports, in any namespace
    ovs.py        Open vSwitch: bridges, ports, mirrors, QoS, flow export, tables, flows, MACs
    routers.py    namespaces, legs, nftables in them, dnsmasq; forwards.py: the host's port forwards
    plan.py       the whole plan between actual state and document, its digest and its risk
    apply.py      journal, all-or-nothing, the timer on the host, confirm, revert
    helper.py     JSON lines on standard input and output around all of it
    client.py     starts a helper (directly, by sudo, by ssh, in a namespace) and talks to it

Each part (links, ovs, routers, forwards) has

    read(context) -> dict                               its share of the actual state
    plan(context, actual, desired, owned) -> list[Step] actual: the whole state; desired and owned:
        documents (spec/hostnet.py as JSON): what is wanted, and what was last applied by us.
        In owned and not in desired: removed, if it still bears our mark. In neither: left alone.
"""
