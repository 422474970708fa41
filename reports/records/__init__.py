"""Records as a report reads them: which count, one model of a search, sweeps, bundles."""
