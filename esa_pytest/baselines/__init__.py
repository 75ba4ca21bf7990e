"""WHAT is evaluated: models and baseline types, corpora, windows. No torch, no model."""
