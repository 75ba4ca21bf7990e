"""Where baselines run, and in which order: workers of pytest-xdist, nodes of a Ray cluster, ranks of torchrun."""
