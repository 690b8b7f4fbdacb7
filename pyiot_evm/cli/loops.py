"""What a ``serve`` loop says: each act as it is done, and nothing that grows over the weeks that it runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyiot_evm.cli.output import Output

__all__ = ["Told"]


class Told:
    """Tells what a loop does: a line each for people, a JSON object a line for programs.

    With ``--once`` programs get it as one object in the end, as from every other command.

    Args:
        output: Where to.
        once: Whether the loop does what can be done now, and ends.
    """

    def __init__(self, output: "Output", *, once: bool) -> None:
        self._output = output
        self._once = once
        self._acts: list[Mapping[str, Any]] = []

    def tell(self, document: "Mapping[str, Any]", line: str) -> None:
        """Tell of one act."""
        if self._once:
            self._acts.append(document)
        if not self._output.json:
            self._output.line(line)
        elif not self._once:
            self._output.show(document)

    def end(self, head: "Mapping[str, Any]", nothing: str) -> None:
        """End a loop that ran once: ``head`` comes before its acts, ``nothing`` is told where there were none."""
        if self._once:
            self._output.end({**head, "actions": self._acts}, "" if self._acts else nothing)
