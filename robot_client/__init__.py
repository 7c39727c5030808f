"""The robot's side: control loop, arms, cameras, safety, tasks and the wire protocol. No torch."""
