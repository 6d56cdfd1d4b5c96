"""``python -m kvmweb.net``, ``python -I /path/to/kvmweb/net`` and a zipapp of it: the helper."""

import sys
from pathlib import Path

if not __package__:
    # Run as a directory, that is the first place in sys.path: the package has to be found.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from kvmweb.net import helper

helper.main(sys.argv[1:])
