"""Exit statuses of `robot-client`."""

DONE, NOT_ACHIEVED, FAILED, INTERRUPTED = 0, 1, 2, 130
