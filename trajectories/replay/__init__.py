"""Judging planners on recorded episodes: what to ask, how to measure, what to show.

Shared by the robot's `replay` command (through a server), by `planner_server.replay` (in process) and by training,
which validates with the same metrics. Knows numpy; knows no network and no torch.
"""
