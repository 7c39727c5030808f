"""Recorded robot motion: pose algebra, episodes, and the data sets they are kept in.

`dataset.open_dataset` reads, `recorder` and `lerobot.writer` write, `clock` thins out to a control
period, `replay` holds plans against what was recorded. Knows no network and no torch.
"""
