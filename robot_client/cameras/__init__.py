"""Cameras that the control loop can look through; `camera.py` says what a camera is."""
