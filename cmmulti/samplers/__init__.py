"""How to sample: few-step consistency sampling, and ODE solvers for teachers."""
