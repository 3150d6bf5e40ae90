"""What schemathesis must know of this API that a description cannot say."""

from __future__ import annotations

import itertools
import re
from typing import Any

import schemathesis

_KEY = re.compile(r"[!-~]{1,240}")
_numbers = itertools.count(1)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """One ``Idempotency-Key`` belongs to one request: with the same in all of them, most would only be told that."""
    headers = case.headers or {}
    key = headers.get("Idempotency-Key")
    if isinstance(key, str) and _KEY.fullmatch(key):
        headers["Idempotency-Key"] = f"{key}-{next(_numbers)}"
