"""The training loop, aggressive training of the encoder, and the state that a training resumes from."""
