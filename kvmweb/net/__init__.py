"""The host's own network: read, planned, applied, confirmed, undone.

What runs on the host is pure Python (3.10 or newer) without any package, for it is shipped to hosts
that have python3, ssh and sudo only.

    context.py      what actions and readers work with: sockets by namespace, programs, OVSDB
    step.py         Step, the table of actions, batches, the ranks
    rtnetlink.py    the kernel's messages; kinds.py: kinds of links; ethtool.py, tuntap.py: ioctls;
                    namespaces.py; features.py: what a kernel can do
    links.py        links, addresses, routes, bridges, ports as they are (kernel.py decodes them);
                    linkchecks.py, linkplan.py with linkremovals.py, portplan.py, routeplan.py
                    (over ground.py): what can't be, and the steps
    changes.py      steps and actions for links and ports; addresses.py: for addresses and routes;
                    moves.py: from one link to another; put_back.py: what the kernel dropped
    ovs/            Open vSwitch: bridges, ports, mirrors, QoS, flow export, tables, flows, MACs
    routers/        namespaces, legs, nftables in them, dnsmasq
    forwards.py     the host's port forwards; gates.py: past libvirt's rules; sockets.py: who
                    listens; nftables.py: tables of ours, for routers too
    plan.py         the whole plan between actual state and document; risk.py: what is at stake
    apply.py        all or nothing, confirm, revert; journal.py, originals.py: kept on the host;
                    timer.py: the process that reverts
    helper.py       JSON lines on standard input and output around all of it; calls.py: its table;
                    monitor.py: events; commands.py: what may be run
    client.py       talks to a helper; launch.py: started here, by sudo, by ssh; archive.py: shipped

Each part (links, ovs, routers, forwards) has

    read(context) -> dict                               its share of the actual state
    plan(context, actual, desired, owned) -> list[Step] actual: the whole state; desired and owned:
        documents (spec/hostnet.py as JSON): what is wanted, and what was last applied by us.
        In owned and not in desired: removed, if it still bears our mark. In neither: left alone.
"""
