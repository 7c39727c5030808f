"""LeRobot data sets: v2.0, v2.1 and v3.0 are read, v3.0 is written."""
