"""A shipped model: config, weights and card."""
