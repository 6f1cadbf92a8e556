"""Many trainings of one network as one: a stack of networks that step together.

A member of a pack is an ordinary training (`training/state.py`) whose weights, buffers
and momenta are rows of the memory of the pack. Steps (`methods.py`, `sgd.py`) and
scores (`scoring.py`) are computed for all members at once; all else, such as rules that
stop, files and states to resume from, is the code of a training alone.

Packing changes the order in which floating-point numbers are added and nothing else:
weights agree with those of the training alone to rounding.

Shape letters: K members, B batch.
"""
