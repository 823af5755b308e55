"""What the board draws: one sampler, many sources, and the energy of a run.

A reading is milliwatts by rail, as the sensor gives it: never clamped, never filled in. Where nothing can be read the answer
is None, never 0.
"""
