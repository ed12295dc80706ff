"""Restarts the process with huge pages: the C library reads that setting from the environment at process start only.

XLA on CPU allocates hundreds of megabytes for every step and frees them after it. With pages of 4 KB a step of the Table 6
network has 200,000 page faults, with pages of 2 MB 800.
"""

import os
import platform
import sys

TUNABLE = "glibc.malloc.hugetlb=1"


def restart_with_huge_pages() -> None:
    """Replaces this process by the same command with the tunable set; call it before anything else.

    Does nothing on systems other than Linux with glibc, or if the user has set GLIBC_TUNABLES.
    """
    if "GLIBC_TUNABLES" in os.environ or platform.libc_ver()[0] != "glibc":
        return
    os.environ["GLIBC_TUNABLES"] = TUNABLE
    # orig_argv includes the interpreter's own options, such as -W error.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
