"""Ends what the gateway has started when the gateway itself is gone, whatever ended it.

A process of its own, without imports that cost anything. It reads lines from its standard input, the other end of
which only the gateway holds: `+PGID` enters a process group, `-PGID` takes it out. At the end of the input, that is
when the gateway has exited or was killed, it sends SIGKILL to every group that is still entered, and exits.

On Linux the kernel ends direct children too (`PR_SET_PDEATHSIG`, see `system.process`); this also reaches their
children, and is the only protection on other systems.
"""

import os
import signal
import sys


def main() -> None:
    """Keep the list until the input ends, then carry it out."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
