"""Models shipped with the package, each a folder that `Pipeline.from_pretrained` reads."""
