"""The training loop, its aggressive variation, and the state that a training resumes from."""
