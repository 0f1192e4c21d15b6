"""Profile hidden Markov models: reading, writing, estimating and scoring."""
