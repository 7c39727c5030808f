"""Arms that the control loop can move; `arm.py` says what an arm is."""
