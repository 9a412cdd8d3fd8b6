"""CT: measured sinograms, and the task that reconstructs them."""
