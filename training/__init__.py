"""Training of the encoder (V-JEPA masked prediction) and of the action-conditioned predictor.

Knows models, recorded data and the simulator's data sets; knows no server and no robot.
"""
