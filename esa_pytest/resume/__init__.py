"""What an interrupted run leaves, and how `--esa-resume` takes it up: a mark for each test that was judged."""
