"""`robot-client`, and the same as `python -m robot_client`."""

import sys

try:
    from robot_client.cli import main
except ModuleNotFoundError as error:  # the wheel is the same on every machine, the extras are not
    sys.exit(f"error: {error}; pip install 'vjepa-planner[client]'")

if __name__ == "__main__":
    sys.exit(main())
