"""HOW IT IS JUDGED: pure functions from two records to a verdict."""
