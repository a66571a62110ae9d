"""Verdicts of the ledger of claims, read from the committed result when the book is built, never typed.

The role ``verdict`` (``{verdict}`C3```) says what the ledger found on a claim and how many of its criteria passed.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from refam_analysis.experiments.claims import ledger
from refam_analysis.experiments.provenance import RESULTS, load_result


@cache
def verdicts() -> pd.DataFrame:
    """The committed verdicts, by claim. Refused where the weights that they are about have changed."""
    table: pd.DataFrame = load_result(ledger.NAME)["verdicts"]
    return table.set_index("claim")


def spelt(claim: str) -> str:
    """A verdict as the book writes it: ``not supported (1 of 3 criteria)``."""
    row = verdicts().loc[claim]
    tested, untested = int(row["tested"]), int(row["untested"])
    criteria = "criterion" if tested == 1 else "criteria"
    passed = f" ({int(row['passed'])} of {tested} {criteria})" if tested else ""
    open_ones = f"; {untested} could not be tested" if untested else ""
    return f"{row['verdict']}{passed}{open_ones}"


class VerdictRole(SphinxRole):
    """The verdict on one claim, C1 to C12."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Its text, in strong type where the claim is supported."""
        self.env.note_dependency(str(RESULTS / ledger.NAME / "verdicts.parquet"))
        if self.text not in verdicts().index:
            message = self.inliner.reporter.error(f"The ledger has no claim {self.text!r}.", line=self.lineno)
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        text = spelt(self.text)
        kind = nodes.strong if text.startswith("supported") else nodes.emphasis
        return [kind(self.rawtext, text)], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the role known to Sphinx."""
    app.add_role("verdict", VerdictRole())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
