"""The ledger of claims: every claim of the paper, measured over scenes and judged by rules that were fixed before.

`rules` says what would support a claim, `measures` turns scenes into numbers (those about depth in `profiles`, those
about words and masks in `readings`), `ledger` runs it all and writes the result. It runs on any model that can be
recorded, ``refam claims``. `trainings` looks at the ledgers of several models at once.
"""
