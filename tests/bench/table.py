"""Rows of the result: a measured value beside another of the same run, and their ratio."""


def figure(value):
    """Three significant digits, thousands grouped."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


class Table:
    """Prints row by row, so that a run that is stopped has told what it knew."""

    def __init__(self, again):
        self._again = again

    def begin(self, part):
        print(f"\n{part:<52}{'measured':>18}   {'beside it':<46}{'ratio':>8}    again: {self._again} {part}", flush=True)

    def row(self, what, value, unit, beside=None, other=None):
        measured = f"{figure(value)} {unit}"
        against = f"{figure(other)} {unit} {beside}" if beside else ""
        ratio = f"{value / other:.2f}" if beside and other else ""
        print(f"  {what:<50}{measured:>18}   {against:<46}{ratio:>8}".rstrip(), flush=True)

    def note(self, text):
        print(f"  {text}", flush=True)

    def failed(self, part, error):
        print(f"  {part} gave up: {error}", flush=True)
