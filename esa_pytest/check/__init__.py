"""One check from end to end: measure, judge, accept, tell. What a test is handed, and what becomes of it."""
