"""The commands of `robot-client`, one module each.

A module has `NAME`, `HELP` and `add(parser)`, which adds its options and sets `command` to a function
of the parsed options that returns the exit status.
"""
