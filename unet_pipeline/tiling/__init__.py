"""Where windows and tiles lie, and how their scores are joined: pure functions, no I/O."""
