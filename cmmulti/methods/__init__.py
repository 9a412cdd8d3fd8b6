"""How to train: one file, one class, one paper each."""
