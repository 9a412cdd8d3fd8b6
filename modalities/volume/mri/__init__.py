"""MRI: measured k-space, what is estimated from it, and the task that reconstructs it."""
