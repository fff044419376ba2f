"""stress-ng's stressor of memory, all of its methods verified, swapped to a store."""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from pathlib import Path

from trial import cgroup, swap

from outside.suite import Outcome, Run, Suite, last_lines, missing, run_tool
from tests.integration import harness
from tests.integration.harness import difffs

_MEMORY_MIB = 96
_RESIDENT_MIB = 48
_OPERATIONS = re.compile(r"\] vm +(\d+) ")
_SWAPPED_AT_LEAST = 32 << 20


def _obstacle() -> str | None:
    return harness.obstacle() or swap.obstacle() or cgroup.obstacle() or missing("stress-ng")


def _run(run: Run) -> Outcome:
    outcome = Outcome()
    seconds = run.seconds(60)
    log = run.evidence / "log"
    with ExitStack() as stack:
        store = stack.enter_context(harness.folder_in_memory()) / "store"
        area = json.loads(
            difffs("swapon", store, "--size", "512M", "--priority", "32767", "--json").stdout
        )
        stack.callback(_swap_off, store, outcome)
        group = stack.enter_context(
            cgroup.MemoryCgroup(f"difffs-outside-{os.getpid()}", _RESIDENT_MIB << 20)
        )
        words = ["--vm", "1", "--vm-bytes", f"{_MEMORY_MIB}M", "--vm-method", "all", "--verify"]
        command = ["stress-ng", *words, "--timeout", str(seconds), "--metrics-brief"]
        status = run_tool(
            command, log, seconds=seconds + 300, folder=run.evidence, enter=group.enter
        )
        told = json.loads(difffs("stats", store, "--json").stdout)
        written = sum(route["bytes_in"] for route in told["routes"].values())
        if status:
            outcome.failed.append(f"exit status {status}: {last_lines(log)}")
        elif written < _SWAPPED_AT_LEAST:
            outcome.failed.append(f"only {written >> 20} MiB were swapped out: it tried nothing")
        else:
            outcome.passed += 1
        found = _OPERATIONS.search(log.read_text(errors="replace"))
        outcome.remarks.append(
            f"{seconds} s, {found.group(1) if found else 'unknown'} operations, "
            f"{written >> 20} MiB swapped out to {area['device']}"
        )
    return outcome


def _swap_off(store: Path, outcome: Outcome) -> None:
    difffs("swapoff", store)
    if not json.loads(difffs("check", store, "--json").stdout)["clean"]:
        outcome.failed.append("the store is not clean")
    outcome.failed.extend(
        line for line in (store / "log").read_text().splitlines() if " ERROR " in line
    )


SUITE = Suite(
    "stress-swap",
    "stress-ng --vm 1 --vm-method all --verify, swapped to a store",
    {},
    _obstacle,
    _run,
)
