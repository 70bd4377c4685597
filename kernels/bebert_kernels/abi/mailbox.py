"""The mailbox of a worker thread, int64[FIELDS], a cache line: what `program/team.py` and Python say to each other."""

STATE, JOBS, COUNT, LEAVE = range(4)
# STATE : one of the states below            JOBS, COUNT : address of the jobs of the worker, and how many
# LEAVE : 1 asks the worker to leave native code
FIELDS = 8

AWAY, WAITING, CLAIMED, WORKING, DONE = range(5)

JOB = 6  # int64 of a job: the arguments of the stage `run_program`
