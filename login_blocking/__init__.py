"""The pure core: attempts, policy, blocks and subjects. No clock, no I/O, no environment."""
