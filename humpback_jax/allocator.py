"""The C library's allocator, tuned for computing on CPUs.

XLA takes its buffers from `malloc` anew for every program it runs. By default glibc gives large ones back to the system
at once, so that every step faults gigabytes in again, 4 KiB at a time. Kept, and on huge pages, the same step takes
about two thirds of the time.
"""

import os
import pathlib
import platform
import sys

VARIABLE = "GLIBC_TUNABLES"
KEEP_ON_HUGE_PAGES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776"
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/accel0", "/dev/vfio/0")


def computes_on_cpu() -> bool:
    """Whether JAX will use the CPU, told without importing it."""
    platforms = os.environ.get("JAX_PLATFORMS")
    if platforms:
        return platforms == "cpu"
    return not any(pathlib.Path(device).exists() for device in ACCELERATORS)


def restart_with_tuned_allocator() -> None:
    """Starts this program again, as the same process, with `GLIBC_TUNABLES` set: glibc reads it at the start only.

    Nothing happens where the variable is set already (to anything), on accelerators, and without glibc.
    """
    if VARIABLE in os.environ or platform.libc_ver()[0] != "glibc" or not computes_on_cpu():
        return
    os.execve(sys.executable, sys.orig_argv, os.environ | {VARIABLE: KEEP_ON_HUGE_PAGES})
