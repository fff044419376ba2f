"""What a suite has found, for people and as JSON."""

import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Report:
    """Counts and violations of one suite."""

    suite: str
    seed: int
    keep: Path
    """Where what a violation needs to be looked at goes."""
    quiet: bool = False
    rounds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """What was done, by name."""
    points: dict[str, int] = field(default_factory=dict)
    """Rounds by fault point."""
    unmet: list[str] = field(default_factory=list)
    """Fault points that were met and where no round was killed."""
    violations: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.time)
    _said: float = 0.0

    def progress(self, text: str) -> None:
        """A line now and then."""
        now = time.monotonic()
        if not self.quiet and now - self._said > 5:
            self._said = now
            took = time.time() - self.began
            line = f"{self.suite}: {text}, {len(self.violations)} violations, {took:.0f} s"
            print(line, file=sys.stderr, flush=True)

    def violated(self, what: list[str], store: Path, replay: dict[str, Any]) -> Path:
        """Keeps a store, and all that making it again takes; where."""
        folder = self.keep / f"{self.suite}-{self.seed}-{len(self.violations)}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if store.exists():
            shutil.copytree(store, folder / "store")
        text = json.dumps({"suite": self.suite, "wrong": what, **replay}, indent=1)
        (folder / "replay.json").write_text(text)
        self.violations.append({"wrong": what, "kept": str(folder)})
        if not self.quiet:
            print(f"VIOLATION {folder}: " + "\n  ".join(what[:6]), file=sys.stderr, flush=True)
        return folder

    @property
    def is_clean(self) -> bool:
        """Whether the promise was kept, and everything that was to be tried was."""
        return not self.violations and not self.unmet

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "suite": self.suite,
            "seed": self.seed,
            "date": time.strftime("%Y-%m-%d", time.gmtime(self.began)),
            "seconds": round(time.time() - self.began, 1),
            "rounds": self.rounds,
            "counts": dict(sorted(self.counts.items())),
            "points": dict(sorted(self.points.items())),
            "unmet": self.unmet,
            "violations": self.violations,
        }

    def text(self) -> str:
        """For people."""
        lines = [f"{self.suite}: {self.rounds} rounds in {time.time() - self.began:.0f} s"]
        lines += [f"  {count:8,} {name}" for name, count in sorted(self.counts.items())]
        if self.points:
            fewest = min(self.points.values())
            lines.append(f"  {len(self.points)} fault points, each at least {fewest} times")
        lines += [f"  NOT TRIED: {name}" for name in self.unmet]
        lines += [f"  VIOLATION: {each['kept']}: {each['wrong'][0]}" for each in self.violations]
        return "\n".join(lines)
