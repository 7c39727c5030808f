"""Frozen evaluations: what an encoder's tokens tell about videos and images (arXiv 2506.09985, section 4)."""
