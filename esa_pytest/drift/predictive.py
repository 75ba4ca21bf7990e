"""What the next harmless change may do, learned from a dozen that were tried."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

# A tail beyond the data is never taken for lighter than exponential, nor for one without a kurtosis, which a shape from
# 1/4 on lacks: those of real models are between 7 and 41.
_SHAPES = (0.0, 0.2)


@dataclass(frozen=True, kw_only=True)
class Predictive:
    """Student's t for one more value of a normal sample: the prediction interval (Hahn and Meeker 1991, chapter 4).

    Attributes:
        center: where values lie.
        spread: standard deviation of one more value about the centre, the uncertainty of both included.
        freedom: degrees of freedom.
    """

    center: float
    spread: float
    freedom: float

    @classmethod
    def of(cls, values: Values, *, least_spread: float) -> "Predictive":
        """From values about an unknown centre; `least_spread` where they happen to lie closer than they could."""
        spread = float(values.std(ddof=1)) * float(np.sqrt(1 + 1 / values.size))
        return cls(center=float(values.mean()), spread=max(spread, least_spread), freedom=float(values.size - 1))

    @classmethod
    def about_zero(cls, values: Values, *, least_spread: float = 0.0) -> "Predictive":
        """From values whose centre is zero, since harmless changes have no direction."""
        spread = float(np.sqrt(np.mean(values**2)))
        return cls(center=0.0, spread=max(spread, least_spread), freedom=float(values.size))

    def widened(self, error: Values, freedom: float) -> "Spread":
        """With an error of the new value's own, shape (runs,)."""
        ours, its = self.spread**2, np.square(error)
        # Welch and Satterthwaite's degrees of freedom (Welch 1947); of no spread at all, any.
        parts = ours**2 / self.freedom + its**2 / freedom
        together = np.where(parts > 0, (ours + its) ** 2 / np.where(parts > 0, parts, 1.0), self.freedom)
        return Spread(center=self.center, spread=np.sqrt(ours + its), freedom=together)

    def above(self, values: Values) -> Values:
        """The probability of a value at least so large, for each."""
        return Spread(center=self.center, spread=np.array(self.spread), freedom=np.array(self.freedom)).above(values)

    def outside(self, values: Values) -> Values:
        """The probability of a value at least so far from the centre, in either direction, for each."""
        return np.minimum(1.0, 2 * self.above(self.center + np.abs(values - self.center)))

    def quantile(self, probability: float) -> float:
        """The value that is exceeded with the complement of this probability."""
        return self.center + self.spread * student_quantile(probability, self.freedom)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A centre with a spread and degrees of freedom for each of many runs, shape (runs,)."""

    center: float
    spread: Values
    freedom: Values

    def above(self, values: Values) -> Values:
        """The probability of a value at least so large, for each."""
        from scipy.special import stdtr

        distance = values - self.center
        # Where nothing ever varied, whatever is larger is unheard of.
        scaled = np.where(
            self.spread > 0,
            distance / np.where(self.spread > 0, self.spread, 1.0),
            np.where(distance > 0, np.inf, -np.inf),
        )
        return np.asarray(stdtr(self.freedom, -scaled), dtype=np.float64)

    def outside(self, values: Values) -> Values:
        """The probability of a value at least so far from the centre, in either direction, for each."""
        return np.minimum(1.0, 2 * self.above(self.center + np.abs(values - self.center)))


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The largest of many tokens: a generalised Pareto tail over a high threshold (Coles 2001, chapter 4).

    Attributes:
        threshold: where the tail begins.
        share: of the values, how many lie beyond.
        shape: of the tail, the fitted one and its standard error, within bounds.
        scale: of the tail.
    """

    threshold: float
    share: float
    shape: float
    scale: float

    @classmethod
    def of(cls, values: Values, *, share: float) -> "Tail":
        """Fitted to the largest `share` of positive values."""
        from scipy.stats import genpareto  # a second of import that equal bits never pay

        threshold = float(np.quantile(values, 1 - share))
        excess = values[values > threshold] - threshold
        if excess.size < 2 or not excess.max() > 0:
            return cls(threshold=threshold, share=share, shape=_SHAPES[0], scale=max(threshold, 1e-12))
        fitted = float(genpareto.fit(excess, floc=0)[0])
        shape = float(np.clip(fitted + (1 + fitted) / np.sqrt(excess.size), *_SHAPES))
        # The mean of such a tail is scale / (1 - shape).
        return cls(threshold=threshold, share=share, shape=shape, scale=float(excess.mean()) * (1 - shape))

    def above(self, values: Values, *, count: int) -> Values:
        """The probability that the largest of `count` values is at least so large, for each."""
        from scipy.stats import genpareto

        single = self.share * genpareto.sf(np.maximum(values - self.threshold, 0.0), self.shape, scale=self.scale)
        return np.where(values > self.threshold, -np.expm1(count * np.log1p(-single)), 1.0)

    def bound(self, probability: float, *, count: int) -> float:
        """What the largest of `count` values exceeds with this probability."""
        from scipy.stats import genpareto

        single = -np.expm1(np.log1p(-probability) / count)
        return self.threshold + float(genpareto.isf(min(1.0, single / self.share), self.shape, scale=self.scale))


def student_quantile(probability: float, freedom: float) -> float:
    """Student's t that is exceeded with the complement of this probability."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def holm(p_values: list[float], rate: float, *, family: int) -> list[bool]:
    """Which hypotheses to reject so that any false rejection is no likelier than `rate` (Holm 1979).

    Args:
        p_values: of some of the family; the others count as not rejected.
        rate: of any false rejection within the family.
        family: how many hypotheses share the rate.
    """
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > rate / (family - rank):
            break
        rejected[index] = True
    return rejected
