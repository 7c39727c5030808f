"""`python -m robot_client`."""

import sys

from robot_client.cli import main

sys.exit(main())
