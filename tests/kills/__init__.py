"""Random kills: a command that is killed at any moment and resumed must end as if it had never stopped.

`python -m tests.kills --kills 60 --seed 0` kills for real (SIGKILL) and compares everything that a run leaves on disk.
"""
