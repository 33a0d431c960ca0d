"""Studies: a grid of runs, several seeds each, whose held-out answers are compared with intervals."""
