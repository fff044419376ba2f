"""A guest of QEMU whose machine protocol is on its standard input and output, for findings."""

import json
import subprocess
import sys


class Guest:
    """A guest with these options beside `-qmp stdio`; `messages` takes what QEMU says."""

    def __init__(self, *options, messages=None):
        self._process = subprocess.Popen(
            [
                "qemu-system-x86_64", "-accel", "tcg,tb-size=32", "-display", "none", "-nodefaults",
                "-qmp", "stdio", *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        )  # fmt: skip
        self._process.stdout.readline()  # the greeting
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        """Send a command and wait for its answer; an error ends the finding."""
        request = json.dumps({"execute": command, "arguments": arguments})
        print(request, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            answer = json.loads(line)
            if "error" in answer:
                sys.exit(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return

    def quit(self):
        """End it."""
        self.ask("quit")
        self._process.wait(30)
