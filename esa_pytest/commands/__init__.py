"""What `esa` offers beside the tests: accept, diff, history, list and show, report."""
