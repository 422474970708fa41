"""Fuzzing of every reader of files: `python -m tests.fuzz --target all --executions 100000 --home runs`.

`targets` says what is read and how a valid file of it is made, `mutate` how files are broken, `harness` runs one and judges, `worker` runs
many in a process of its own, guided by coverage where atheris is installed. What was mishandled stays in `seeds/<target>/`, and
`test_fuzz.py` reads it again with every run of the tests.
"""
