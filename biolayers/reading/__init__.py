"""Where the bytes of a sequence file come from, how its records are found, and how they become tokens."""
