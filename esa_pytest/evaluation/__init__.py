"""HOW it is evaluated: fetching, loading, scoring, metrics, timing."""
