"""Trainings as SLURM jobs that are queued again when they are preempted or run out of time.

submitit writes and submits the job. SLURM announces the end of a job by a signal; the loop then
finishes its update, saves, and the job queues itself again to continue from there.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from training.config import SlurmConfig
from training.errors import ConfigurationError

_UNTIL_REQUEUED_S = 10.0


class TrainingJob:
    """`python -m training ...` as one task of a job.

    Args:
        arguments: Of the command line.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)

    def __call__(self) -> int:
        """Run the command in this task; the tasks find each other by what SLURM tells them."""
        from submitit.helpers import TorchDistributedEnvironment

        from training.__main__ import main
        from training.commands import UNFINISHED

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        status = main(self._arguments)
        if status == UNFINISHED:
            # Everything is saved. submitit's handler queues the job again and ends the first task;
            # the others must not end before it, or SLURM might call the job done.
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(_UNTIL_REQUEUED_S)
            return status
        if status:
            sys.exit(status)
        return status

    def checkpoint(self) -> Any:
        """Say what to run when the job is queued again: the same, which continues."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(TrainingJob(self._arguments))


def submit(
    arguments: Sequence[str],
    output: Path,
    config: SlurmConfig,
    cluster: Literal["slurm", "local"] = "slurm",
) -> Any:
    """Submit `python -m training` with some arguments.

    Args:
        arguments: Of the command line, without `--slurm`.
        output: The run folder; logs of the job go below it.
        config: What to ask for.
        cluster: `local` starts the tasks on this machine, to try a job out.

    Returns:
        submitit's job.

    Raises:
        ConfigurationError: submitit is not installed, or there is no SLURM here.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigurationError(
            "--slurm needs submitit; pip install 'vjepa-planner[train]'"
        ) from error
    try:
        executor = submitit.AutoExecutor(
            folder=output / "slurm",
            cluster=cluster,
            **({"slurm_max_num_timeout": config.requeues} if cluster == "slurm" else {}),
        )
    except RuntimeError as error:
        raise ConfigurationError(f"no SLURM on this machine ({error})") from error
    executor.update_parameters(**_parameters(config, output.name, cluster))
    return executor.submit(TrainingJob(arguments))


def _parameters(config: SlurmConfig, name: str, cluster: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "name": name,
        "nodes": config.nodes,
        "tasks_per_node": config.tasks_per_node,
        "gpus_per_node": config.gpus_per_node,
        "cpus_per_task": config.cpus_per_task,
        "mem_gb": config.mem_gb,
        "timeout_min": config.timeout_min,
    }
    if cluster == "slurm":
        extra = {"partition": config.partition, "account": config.account, "qos": config.qos}
        parameters |= {f"slurm_{key}": value for key, value in extra.items() if value is not None}
    return parameters
