"""Dense against lexicon search at scale: galleries, grid, sweep, the worker of its jobs, the soak test."""
