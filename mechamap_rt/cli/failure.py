"""What went wrong, as the operator is told."""

from __future__ import annotations

from typing import Any


class Failure(Exception):
    """A command that did not do what it was asked; ends it with exit code 1.

    :ivar code: what a script looks at: ``NO_SERVER``, ``NO_ANSWER``, …, or the server's own code.
    :ivar message: a sentence, without a full stop.
    :ivar hint: what to do about it; may be empty.
    :ivar details: further members of the error, such as ``field`` and ``paths``; any JSON.
    """

    def __init__(self, code: str, message: str, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details

    def as_json(self) -> dict[str, Any]:
        """``{code, message, hint, …}``; without ``hint`` where there is none."""
        hint = {"hint": self.hint} if self.hint else {}
        return {"code": self.code, "message": self.message, **hint, **self.details}
