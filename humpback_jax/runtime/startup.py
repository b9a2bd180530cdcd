"""What must be settled before JAX is imported: where it computes, and the C library's allocator.

XLA takes its buffers from `malloc` anew for every program it runs. By default glibc gives large ones back to the system
at once, so that every step faults gigabytes in again, 4 KiB at a time. Kept, and on huge pages, the same step takes
about two thirds of the time.
"""

import glob
import os
import platform
import sys

ALLOCATOR_VARIABLE = "GLIBC_TUNABLES"
KEEP_ON_HUGE_PAGES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776"
PLATFORM_VARIABLE = "JAX_PLATFORMS"
ACCELERATORS = ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*", "/dev/nvidia[0-9]*", "/dev/dxg", "/dev/kfd")


def prepare_process() -> None:
    """Called first by every program: may start it again, as the same process, since glibc reads its variable once.

    On machines with an accelerator, and where the variables are set, nothing is changed.
    """
    if not _computes_on_cpu():
        return
    # Else JAX asks an installed libtpu for its chips, which looks for a metadata server and prints errors.
    os.environ.setdefault(PLATFORM_VARIABLE, "cpu")
    if ALLOCATOR_VARIABLE not in os.environ and platform.libc_ver()[0] == "glibc":
        os.execve(sys.executable, sys.orig_argv, os.environ | {ALLOCATOR_VARIABLE: KEEP_ON_HUGE_PAGES})


def _computes_on_cpu() -> bool:
    platforms = os.environ.get(PLATFORM_VARIABLE)
    if platforms:
        return platforms == "cpu"
    return sys.platform == "linux" and not any(glob.glob(pattern) for pattern in ACCELERATORS)
