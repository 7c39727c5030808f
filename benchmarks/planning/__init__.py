"""How good and how fast the planners are; run by `python -m planner_server.planning.bench`."""
