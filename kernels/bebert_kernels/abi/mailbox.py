"""The mailbox of a worker thread, int64[FIELDS], cache lines of its own: what `program/team.py` and Python tell it."""

STATE, JOBS, COUNT, LEAVE, THREAD, CPU = range(6)
# STATE  : one of the states below           JOBS, COUNT : address of the jobs of the worker, and how many
# LEAVE  : 1 asks the worker to leave native code
# THREAD : the system's number of the worker           CPU : the one that it was on when it looked last
CPUS = 8  # from here on a place to work with sets of CPUs, one bit each
WORDS = 16  # of 64 CPUs each, as many as Linux' own sets have
FIELDS = CPUS + WORDS

AWAY, WAITING, CLAIMED, WORKING, DONE, ASLEEP = range(6)

JOB = 6  # int64 of a job: the arguments of the stage `run_program`
