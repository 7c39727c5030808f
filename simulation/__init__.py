"""A simulated FR3 workcell: one scene for fast offline stepping and for the real libfranka wire.

Knows MuJoCo and `trajectories`; knows no planner, no client and no torch. Importing the package
selects a headless OpenGL back end, which MuJoCo reads once, at its own import.
"""

from simulation.headless import select_gl_backend

select_gl_backend()
