"""Closed-loop evaluation: policies drive the offline workcell and the physics is the judge.

`python -m simulation evaluate` is the command. A policy is named by a string
`package.module:factory`, so that nothing here imports a planner; it runs in a process of its own
and is sent camera frames, measured states and goal images, and nothing else.
"""
