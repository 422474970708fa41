"""Vectors that other tools wrote: their readers, checks of their values, and the command `lexlip-bench import`."""
