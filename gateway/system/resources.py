"""What this process and this machine use of memory and the rest, as the operating system says."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Bytes, seconds, counts. `started` is Unix time; `open_files` is `None` where the system does not count them."""

    resident: int
    virtual: int
    cpu: float
    threads: int
    open_files: int | None
    started: float
    machine_total: int
    machine_available: int


def resources() -> Resources:
    """Return what is in use now. Reads files of the system: not on the event loop."""
    process = psutil.Process()
    with process.oneshot():
        memory, cpu = process.memory_info(), process.cpu_times()
        machine = psutil.virtual_memory()
        return Resources(
            resident=memory.rss,
            virtual=memory.vms,
            cpu=cpu.user + cpu.system,
            threads=process.num_threads(),
            open_files=process.num_fds() if hasattr(process, "num_fds") else None,
            started=process.create_time(),
            machine_total=machine.total,
            machine_available=machine.available,
        )
