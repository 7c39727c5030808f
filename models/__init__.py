"""V-JEPA 2 networks and their weights: encoder, pretraining predictor, action-conditioned world model.

Follows arXiv 2506.09985 and computes exactly what the published weights were trained to compute.
Knows torch; knows no server, no robot, and no file format but checkpoints.
"""
