"""The fault table: every fault of reading and of the document, executed on a hub with real users.

A *row* of the table is a fault (`rows`); a *lane* is a failure policy, with a last good document or without. Where they
cross is a cell: somebody's start meets the fault, the fault is lifted, the next start follows (`bench`). Beside the
lanes, a start that is only observed (`observe_only`) meets each fault too. `page` makes docs/faults.md of what came of
it, and test_faults.py says what should.
"""
