"""A camera in a process of its own that fails in the middle: freezes, dies or shows only black.

`python -m tests.integration.scripted_camera --fault freeze --after-s 3`
"""

import argparse
import sys
import time
from typing import Any

import msgpack
import zmq

from robot_client.cameras.testcard import TestCard

RATE_HZ = 15.0


def main() -> None:
    """Publish test cards; the ready line is the endpoint."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fault", choices=("freeze", "die", "black", "repeat"), required=True)
    parser.add_argument("--after-s", type=float, default=3.0)
    options = parser.parse_args()
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.PUB)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    sys.stdout.write(f"tcp://127.0.0.1:{port}\n")
    sys.stdout.flush()
    card, sequence = TestCard(), 0
    kept = card.newest(0.0).frame
    failing_at = time.monotonic() + options.after_s
    while True:
        frame = card.newest(0.0).frame
        if time.monotonic() > failing_at:
            if options.fault == "die":
                return
            if options.fault == "freeze":
                time.sleep(3600.0)
            frame = kept if options.fault == "repeat" else 0 * frame
        elif sequence == 0:
            kept = frame
        height, width = frame.shape[:2]
        fields = {
            "version": 1,
            "sequence": sequence,
            "t_monotonic_s": time.monotonic(),
            "t_wall_s": time.time(),
            "height": height,
            "width": width,
            "rgb": frame.tobytes(),
        }
        socket.send(msgpack.packb(fields))
        sequence += 1
        time.sleep(1.0 / RATE_HZ)


if __name__ == "__main__":
    main()
