"""How far two distributions are apart at least, from nothing but their likeliest tokens.

Any partition of the vocabulary gives a Kullback-Leibler divergence that is at most the full one (the log-sum
inequality; Cover and Thomas, Elements of Information Theory, theorem 2.7.1). The partition here: each token that both
runs hold among their likeliest, and all the others together.
"""

import numpy as np
import numpy.typing as npt

from esa_pytest.records import TopProbabilities

# What float32 logarithms cannot say of a rest. Equal masses added to both sides bring them nearer to each other, by the
# same inequality, so that the bound stays one.
_UNSURE_MASS = 1e-6


def kl_lower_bound(golden: TopProbabilities, measured: TopProbabilities) -> npt.NDArray[np.float64] | None:
    """A lower bound of KL(golden || measured) in nats at every sampled token, float64, shape (sample,).

    None where the two sampled other tokens, and can therefore not be compared.
    """
    if not np.array_equal(golden.token, measured.token):
        return None
    shared = golden.ids[:, :, None] == measured.ids[:, None, :]
    logp, logq = (top.log_probability.astype(np.float64) for top in (golden, measured))
    in_both = shared.any(axis=2)
    # The other run's logarithm, in this one's order.
    matched = np.where(shared, logq[:, None, :], 0.0).sum(axis=2)
    p = np.where(in_both, np.exp(logp), 0.0)
    each = np.where(in_both, p * (logp - matched), 0.0).sum(axis=1)
    rest_p = np.maximum(1.0 - p.sum(axis=1), 0.0) + _UNSURE_MASS
    rest_q = np.maximum(1.0 - np.where(in_both, np.exp(matched), 0.0).sum(axis=1), 0.0) + _UNSURE_MASS
    return np.asarray(np.maximum(each + rest_p * np.log(rest_p / rest_q), 0.0), dtype=np.float64)
