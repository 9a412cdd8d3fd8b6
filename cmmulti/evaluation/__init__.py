"""How good a model is: what makes every figure of the model cards."""
