"""How two wheels are told apart."""

from __future__ import annotations

from pathlib import Path

from wheels.compare import Contender, table


def contender(rates: list[float], payload: int) -> Contender:
    found = Contender(Path("a.whl"), Path("python3"))
    found.rates["import, pages/CPU s"] = rates
    found.stored["payload"] = payload
    return found


def test_the_table_has_the_best_rounds_and_the_middle_of_the_ratios() -> None:
    # the second is a tenth faster; in the first's second round the machine was busy
    lines = table(
        contender([1000.0, 500.0, 990.0], 5000), contender([1100.0, 1050.0, 1089.0], 4000)
    )
    name, first, second, best, middle = lines[1].rsplit(maxsplit=4)
    assert name == "import, pages/CPU s"
    assert (first, second, best, middle) == ("1,000", "1,100", "1.100", "1.100")
    assert lines[2].split() == ["payload,", "bytes", "5,000", "4,000"]
