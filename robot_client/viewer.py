"""A run in Rerun, live or as an .rrd file; needs `pip install .[rerun]`, imported only here."""

from typing import Any

from robot_client.errors import RunError
from robot_client.records import StepRecord


class RerunViewer:
    """Shows every pass: frame, pose, energies, latency.

    Args:
        target: "live" opens the viewer, anything else is the .rrd file to write.

    Raises:
        RunError: rerun is not installed, or the file cannot be written.
    """

    def __init__(self, target: str) -> None:
        try:
            import rerun
        except ImportError as error:
            text = "--rerun needs the package: pip install 'vjepa-planner[rerun]'"
            raise RunError(text) from error
        self._rr: Any = rerun
        rerun.init("robot-client", spawn=target == "live")
        if target != "live":
            rerun.save(target)
        self._passes = 0

    def show(self, record: StepRecord) -> None:
        """Log one pass."""
        rr = self._rr
        rr.set_time("pass", sequence=self._passes)
        self._passes += 1
        if record.captured is not None:
            rr.log("camera", rr.Image(record.captured.frame).compress())
        if record.state is not None:
            rr.log("arm/flange", rr.Points3D([record.state.pose[:3]], radii=0.01))
        if record.filtered is not None:
            rr.log("arm/target", rr.Points3D([record.filtered.target[:3]], radii=0.01))
        if record.act is not None:
            rr.log("energy/now", rr.Scalars(record.act.energy_now))
            rr.log("energy/predicted", rr.Scalars(record.act.energy))
            rr.log("plan_ms", rr.Scalars(record.act.plan_ms))
        if record.latency_ms is not None:
            rr.log("latency_ms", rr.Scalars(record.latency_ms))
        if record.problem is not None:
            rr.log("problems", rr.TextLog(record.problem))
