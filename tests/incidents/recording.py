"""A golden of a release that this project may not support: its scores, its reference, and the noise of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from esa_pytest.evaluation.fresh import bits_of
from esa_pytest.evaluation.noise import ATTENTION, NUM_FLIPS, other_meanings, variant_of
from esa_pytest.evaluation.noise_sample import NoiseSample
from esa_pytest.evaluation.probe_noise import largest_differences
from esa_pytest.evaluation.variants import smaller_processors
from esa_pytest.records import Noise, Record
from tests.incidents.arrays import probe_of, record_of, scores_of, top_of
from tests.incidents.jobs import Job, Refused, Scored, run, scored
from tests.incidents.subjects import Subject, subject_of

_ATTENTIONS = ("eager", "sdpa")
_JITTERS = ("last bit of inv_freq", "last bit of layer outputs")
# Fewer than for a golden of ours: each costs an evaluation, or a process that imports an old release.
_NUM_JITTERS = 2
_NUM_PROCESSORS = 1
_BRIEF_FLIPS = 6
_OTHER_REFERENCE = "reference with sdpa"
Named = Sequence[tuple[str, Scored | Refused]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A model of `subjects.FAMILIES` under a release, loaded and scored in a certain way.

    Attributes:
        release: of transformers.
        model: its name.
        job: how it is loaded and scored.
        context_length: of the windows; None for the baseline's own.
        one_window: whether only the window is scored that the reference looks at, which takes half the time.
    """

    release: str
    model: str
    job: Job = field(default_factory=Job)
    context_length: int | None = None
    one_window: bool = False

    @property
    def subject(self) -> Subject:
        """The model, and what is scored of its text."""
        return subject_of(self.model, context_length=self.context_length, one_window=self.one_window)


@cache
def measured(setting: Setting, *, variables: tuple[tuple[str, str], ...] = ()) -> Record:
    """The record of one run in a fresh process, with variables laid over this process' own."""
    return record_of(setting.subject, scored(setting.release, setting.subject, setting.job, variables=dict(variables)))


@cache
def recorded(setting: Setting, *, held_out: str | None = None, brief: bool = False) -> Record:
    """The record as a golden: with its noise, measured under that very release by what must not matter.

    As `evaluation.noise` and `evaluation.probe_noise` do it: the other attention implementation; a smaller instruction
    set, in a process of its own; flipped last bits of weights; last bits of RoPE frequencies and layer outputs.

    Args:
        setting: the release whose numbers are accepted.
        held_out: a variant that is left out, since it is what is to be judged.
        brief: whether fewer seeds do, and no smaller instruction set.
    """
    release, subject = setting.release, setting.subject
    (_, first), *found = [
        (name, answer)
        for variables, named in golden_jobs(setting.job, brief=brief)
        for (name, _), answer in zip(
            named, run(release, [(subject, job) for _, job in named], variables=variables), strict=True
        )
        if name != held_out
    ]
    if isinstance(first, Refused) and setting.job.probed:
        # A release may score in bf16 and stumble over float32: its golden then has no reference.
        return recorded(replace(setting, job=replace(setting.job, probed=False)), held_out=held_out, brief=brief)
    assert isinstance(first, Scored), f"transformers {release} refuses {subject.name}: {first.reason}"
    found = _harmless(first, found)
    record = replace(record_of(subject, first), noise=_noise(subject, first, found))
    if record.probe is None:
        return record
    probes = [(name, probe_of(one)) for name, one in found if isinstance(one, Scored) and one.job.probed]
    return replace(record, probe_noise=largest_differences(record.probe, probes))


def golden_jobs(job: Job, *, brief: bool = False) -> list[tuple[Mapping[str, str], list[tuple[str, Job]]]]:
    """What a golden takes: by the variables of a process its jobs, each with its name; the first is the golden's own.

    What a release refuses is no variant.
    """
    rounded, reference = replace(job, probed=False), replace(job, scored=False)
    flips = [(f"last bits, seed {seed}", f"last bits:{seed}") for seed in range(_BRIEF_FLIPS if brief else NUM_FLIPS)]
    jitters = [(name, f"{name}:{seed}") for name in _JITTERS for seed in range(_NUM_JITTERS)]
    here = [
        ("golden", job),
        *((f"attention {other}", replace(rounded, attention=other)) for other in _ATTENTIONS if other != job.attention),
        *((name, replace(rounded, changes=(*job.changes, change))) for name, change in flips),
    ]
    if job.probed:
        here.append((_OTHER_REFERENCE, replace(reference, reference_attention="sdpa")))
        here += [(name, replace(reference, changes=(*job.changes, change))) for name, change in jitters]
    smaller = {} if brief else dict(list(smaller_processors().items())[:_NUM_PROCESSORS])
    elsewhere = [(variables, [(f"instruction set {name}", job)]) for name, variables in smaller.items()]
    return [({}, here), *elsewhere]


def _harmless(first: Scored, found: Named) -> list[tuple[str, Scored | Refused]]:
    """What is found without the other attention implementation, where that computes something else.

    Up to 4.38 sdpa ignored the sliding window that eager attention had: nats apart, and no noise of either.
    """
    sizes = {
        name: float(np.sqrt(np.mean(np.square(one.arrays["nll"].astype(np.float64) - first.arrays["nll"]))))
        for name, one in found
        if isinstance(one, Scored) and one.job.scored
    }
    apart = bool(other_meanings(sizes))
    return [(name, one) for name, one in found if not (apart and name.startswith((ATTENTION, _OTHER_REFERENCE)))]


def _noise(subject: Subject, first: Scored, found: Named) -> Noise:
    golden = _sample(subject, first)
    samples = [(name, _sample(subject, one)) for name, one in found if isinstance(one, Scored) and one.job.scored]
    return Noise(
        windows=np.unique(golden.scores.window).astype(np.int32),
        nll=golden.scores.nll,
        position=golden.scores.position,
        window=golden.scores.window,
        variants=tuple(variant_of(name, golden, sample) for name, sample in samples),
        distinct_bit_patterns=len({bits_of(golden.scores), *(bits_of(sample.scores) for _, sample in samples)}),
        untried=tuple(f"Under {name}: {one.reason}." for name, one in found if isinstance(one, Refused)),
    )


def _sample(subject: Subject, found: Scored) -> NoiseSample:
    return NoiseSample(scores=scores_of(subject, found), top=top_of(subject, found), calibration={})
