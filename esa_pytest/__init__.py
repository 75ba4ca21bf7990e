"""Regression baselines for language models: is this still the model you measured?"""

__version__ = "0.1.0"
