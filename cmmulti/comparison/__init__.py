"""One config, several methods, several data sets: train, measure and show them side by side."""
