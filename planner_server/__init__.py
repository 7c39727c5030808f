"""The planning service: HTTP and ZMQ doors, sessions, one planning worker, and the planners themselves."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vjepa-planner")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "source"
