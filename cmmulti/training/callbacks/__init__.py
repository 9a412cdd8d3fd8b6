"""What happens between steps: guard, log, checkpoints, previews, progress."""
