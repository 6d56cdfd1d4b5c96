"""What a process that serves consoles does first and last."""

import resource

from kvmweb.console import audit, clerk, consoles


def begin() -> None:
    """Once, before the first console: close what a killed process left open in the records."""
    # Two descriptors per console, and the usual 1024 end at five hundred.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    audit.close_left_open()


def end() -> None:
    """When no more connections are taken: close the open consoles, and write that down."""
    consoles.close_all()
    clerk.dismiss()
    audit.forget()
