"""What metrics and resources are called. Apart from the records, which need numpy: every run reads the settings."""

METRIC_NAMES = (
    "mean_nll",
    "nll_sum",
    "num_correct_tokens",
    "num_scored_tokens",
    "perplexity",
    "token_accuracy",
)
CALIBRATION_NAMES = ("brier", "ece", "mean_entropy", "top_k_mass")
THROUGHPUT, MEMORY = "throughput", "memory"
