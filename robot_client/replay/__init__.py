"""Replay recorded episodes through a planner server, over the very wire that a robot uses."""
