"""Recorded robot motion: pose algebra and episode storage.

Knows numpy; knows no network and no torch.
"""
