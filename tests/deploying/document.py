"""``docs/deploying.rst`` as something that can be run: its code blocks, by name."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "deploying.rst").read_text("utf-8")

#: Commands that only a host of one's own is for.
HOST: Final = ("apt-get", "useradd", "systemctl", "certbot", "nginx", "git", "pm2")

_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n   :name: ([a-z-]+)\n\n((?:(?:   .*)?\n)+)", re.MULTILINE)


class Step(NamedTuple):
    """A command as it is typed, and what the document says that it prints; nothing where it says nothing."""

    command: str
    output: str


class Block(NamedTuple):
    """A code block.

    :ivar language: ``console``, ``shell`` or ``javascript``.
    """

    language: str
    text: str

    @property
    def steps(self) -> list[Step]:
        """Of a console: what stands after its prompts, with the lines that go on (``>``)."""
        steps: list[Step] = []
        for line in self.text.splitlines():
            if line.startswith(("# ", "$ ")):
                steps.append(Step(line[2:], ""))
            elif line.startswith("> "):
                steps[-1] = steps[-1]._replace(command=f"{steps[-1].command}\n{line[2:]}")
            else:
                steps[-1] = steps[-1]._replace(output=f"{steps[-1].output}{line}\n")
        return steps


def _blocks() -> dict[str, Block]:
    found = {
        name: Block(language, re.sub(r"^   ", "", text, flags=re.MULTILINE).strip("\n") + "\n")
        for language, name, text in _BLOCK.findall(PAGE)
    }
    assert len(found) == PAGE.count("code-block::"), "every block has a name of its own"
    return found


BLOCKS: Final = _blocks()


class Shell:
    """Runs what the document says, with other paths.

    :param places: what stands in the document, and what it is here; the longest first.
    """

    def __init__(self, places: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self.places, self.environment = dict(places), environment

    def here(self, text: str) -> str:
        """With the paths of the test."""
        for there in sorted(self.places, key=len, reverse=True):
            text = text.replace(there, self.places[there])
        return text

    def run(self, block: str, without: Sequence[str] = ()) -> str:
        """The commands of a block, in one shell, but for those that begin with one of ``without``; what they print.

        Each must succeed, and print what the document says, if it says so.
        """
        steps = [step for step in BLOCKS[block].steps if not step.command.startswith(tuple(without))]
        assert steps, f"there is nothing to run in {block}"
        script = ["set -e", *(f"{self.here(step.command)}\necho '--- done'" for step in steps)]
        done = subprocess.run(
            ["bash", "-c", "\n".join(script)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        printed = done.stdout
        assert done.returncode == 0, f"{block}:\n{printed}"
        for step, output in zip(steps, printed.split("--- done\n"), strict=False):
            assert step.output in ("", output), f"{step.command}\n{output}"
        return printed
