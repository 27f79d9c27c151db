"""The rows of the check: a measured value, the bound that must hold for it, and whether the bound holds."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Value = float | str
"""A measured value or a bound: a number, or a text such as the decision of the pool."""

Status = Literal["passed", "failed", "measured", "not on this device"]
"""What a row says about its bound. `measured`: the row has no bound."""

NO_ERROR = "no error"
"""The bound of a row on a computation that must not raise an error."""


@dataclass(frozen=True)
class Row:
    """One row of the check.

    Attributes:
        name: Name of the measurement.
        value: The measured value; None: it could not be measured.
        unit: Unit of the value.
        bound: The bound that must hold; None: the row has no bound.
        sign: How the value compares with the bound: `<=`, `>=` or `==`.
        system: Name of the system of the paper that the row is about; empty: the row is about no single system.
        remark: How the value was measured, or what explains it.
        missing: Reason why the bound cannot apply on this device; empty: it applies.
        part: Name of the part of the check that measured the row.
    """

    name: str
    value: Value | None
    unit: str = ""
    bound: Value | None = None
    sign: Literal["<=", ">=", "=="] = "<="
    system: str = ""
    remark: str = ""
    missing: str = ""
    part: str = ""

    @property
    def status(self) -> Status:
        """Whether the bound holds. A value that is missing or not a number fails, unless the bound does not apply."""
        if self.missing:
            return "not on this device"
        if self.bound is None:
            return "measured"

        return "passed" if keeps(self.value, self.sign, self.bound) else "failed"

    def as_json(self) -> dict[str, Any]:
        """The row and its status, by name. JSON has types for all values: a number that is not finite is a text."""
        values = {**asdict(self), "status": self.status}

        return {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> "Row":
        """Builds the row that `as_json` turned into `values`."""
        return cls(**{name: value for name, value in values.items() if name != "status"})


def keeps(value: Value | None, sign: str, bound: Value) -> bool:
    """Whether a value keeps a bound. A text keeps only a bound that is the same text."""
    if isinstance(value, str) or isinstance(bound, str):
        return sign == "==" and value == bound
    if value is None or math.isnan(value):
        return False

    return value <= bound if sign == "<=" else value >= bound if sign == ">=" else value == bound


def guarded(name: str, system: str, rows: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """Yields rows, and one row more that fails if their computation raises an error. The other rows then still count.

    Args:
        name: Name of the computation.
        system: Name of the system of the paper; empty: the computation is about no single system.
        rows: Function that computes the rows, whose attribute `system` this function sets.
    """
    try:
        for row in rows():
            yield replace(row, system=row.system or system)
    except Exception as error:  # noqa: BLE001 (the error becomes a row)
        message = " ".join(str(error).split())[:300]
        yield Row(name, f"{type(error).__name__}: {message}", "", NO_ERROR, "==", system)


def counts(rows: Iterable[Row]) -> dict[Status, int]:
    """Counts the rows of each status."""
    found: dict[Status, int] = {"passed": 0, "failed": 0, "measured": 0, "not on this device": 0}
    for row in rows:
        found[row.status] += 1

    return found
