"""Commands that only a real Franka knows: unlock, recover, home the gripper."""
