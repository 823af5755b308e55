"""The space of a block search: which layers may be chosen, which blocks may stand there, and what each costs. No torch."""
