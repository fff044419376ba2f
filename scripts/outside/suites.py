"""All suites, in the order in which they are run."""

from outside import (
    cpython,
    databases,
    fio_state,
    libfuse_syscalls,
    stress_filesystem,
    stress_swap,
    stressapptest,
)

SUITES = (
    libfuse_syscalls.SUITE,
    databases.SQLITE,
    databases.LMDB,
    fio_state.SUITE,
    stressapptest.SUITE,
    stress_swap.SUITE,
    stress_filesystem.SUITE,
    cpython.SUITE,
)
