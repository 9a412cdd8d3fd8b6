"""What was measured, and how a sampler is held to it."""
