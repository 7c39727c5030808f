"""The replay as one page that needs no network: what was found, shown so that a person can judge it."""

from trajectories.replay.report.comparison_page import render_comparison
from trajectories.replay.report.page import Shown, render_report

__all__ = ["Shown", "render_comparison", "render_report"]
