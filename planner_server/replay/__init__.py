"""Replay recorded episodes in this process, without a wire: the quick way to judge a checkpoint.

`python -m planner_server.replay PATH... --model models/shipped` makes the same report as the robot's `replay` command.
"""
