"""The version of this distribution, from the one place that knows it: its metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("vjepa-planner")
except PackageNotFoundError:  # run from a source tree that was not installed
    VERSION = "source"
