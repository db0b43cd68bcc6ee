"""Breaks things on purpose, in a way that can be repeated: several jobs run while their surroundings fail.

`python -m tests.chaos --seconds 60 --seed 7` runs it; `plan` draws what happens, `kinds` is the table of faults,
`world` is what they happen to, `load` are the users, `recovery` watches, `invariants` judge.
"""
