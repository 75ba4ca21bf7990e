"""One run of a baseline: its loaded model, its rounds, its record complete with noise, and the documents it leaves."""
