"""What the metrics are called. Apart from their records, which need numpy: every configured run reads the settings."""

METRIC_NAMES = (
    "mean_nll",
    "nll_sum",
    "num_correct_tokens",
    "num_scored_tokens",
    "perplexity",
    "token_accuracy",
)
CALIBRATION_NAMES = ("brier", "ece", "mean_entropy", "top_k_mass")
