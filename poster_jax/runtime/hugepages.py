"""Asks the C library for huge pages, which it reads once, from the environment, when a process starts.

XLA on CPU takes hundreds of megabytes anew for every step and gives them back after it. In pages of 4 KB a step of the
Table 6 network has 200,000 page faults, in pages of 2 MB 800.
"""

import os
import platform
import sys

TUNABLE = "glibc.malloc.hugetlb=1"


def restart_with_huge_pages() -> None:
    """Replaces this process by the same command with the tunable set; to be called before anything is done.

    Does nothing on other systems than Linux with glibc, or where the user has set GLIBC_TUNABLES, to anything.
    """
    if "GLIBC_TUNABLES" in os.environ or platform.libc_ver()[0] != "glibc":
        return
    os.environ["GLIBC_TUNABLES"] = TUNABLE
    # orig_argv keeps the interpreter's own options, as -W error.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
