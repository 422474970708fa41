"""Fuzzing of every reader of files: `python -m tests.fuzz --target all --executions 100000 --home runs`.

targets/    what is read, and how a valid file of it is made
mutate      changes of a file
harness     one execution: reads a changed file and checks the outcome
worker      many executions in a process of its own, guided by coverage where atheris is installed
seeds/      inputs that were mishandled once; `test_fuzz.py` reads them again in every run of the tests
"""
