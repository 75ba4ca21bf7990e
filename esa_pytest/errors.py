"""What can go wrong in a way that a user can mend: one class for each cause.

Every message is one sentence with the cause, the value seen, what is allowed, and what to do. The plugin
prints the message alone; a traceback is left to mistakes of our own.
"""


class EsaError(Exception):
    """Base of every error whose message is written for the user."""


class SettingError(EsaError):
    """An option, ini key, variable or `[tool.esa]` entry has a value that is not allowed."""


class CorpusError(EsaError):
    """A corpus is missing, unreadable, empty, not UTF-8, or too short for its baseline."""


class TokenizationError(EsaError):
    """The tokens of a corpus are not what the model is meant to see (a doubled or missing BOS)."""


class UnavailableError(EsaError):
    """Something that a baseline needs cannot be had here: a skip with this reason, a failure under `--esa-strict`."""


class ModelUnavailableError(UnavailableError):
    """The weights cannot be reached from here; nothing can be judged, and nothing is wrong with them."""


class HubUnreachableError(ModelUnavailableError):
    """The model hub does not answer, or is switched off, and its cache lacks the model."""


class GatedModelError(ModelUnavailableError):
    """The hub wants a token, or its owner's consent, for this model."""


class RevisionMissingError(ModelUnavailableError):
    """The hub has no such repository, or no such commit in it."""


class UnsafeWeightsError(ModelUnavailableError):
    """The repository holds pickled weights only."""


class RemoteCodeError(ModelUnavailableError):
    """The model needs code that transformers does not have."""


class TokenizerMismatchError(UnavailableError):
    """The tokenizer and the model do not belong together."""


class InsufficientMemoryError(UnavailableError):
    """The device has not enough memory for the model."""


class RanksMissingError(UnavailableError):
    """The model is split over ranks of torchrun and they are not there, or they are there and it is not."""


class CorpusUnavailableError(UnavailableError):
    """A corpus that has to be fetched cannot be reached from here."""


class CacheError(EsaError):
    """The cache cannot be written."""


class CheckpointError(EsaError):
    """The weights are not what they should be (hash, format, architecture), or not where their entry says."""


class CheckpointMissingError(CheckpointError):
    """There is nothing where a model's entry says."""


class DeviceError(EsaError):
    """The device asked for is not there, or cannot run the baseline."""


class EvaluationError(EsaError):
    """The evaluation could not be completed, or contradicted itself between rounds."""


class PhaseTimeoutError(EsaError):
    """Loading or evaluating took longer than the user allows."""


class GoldenError(EsaError):
    """A golden cannot be read, or must not be written."""


class GoldenMissingError(GoldenError):
    """There is no golden of this baseline for this device."""


class OverlayError(EsaError):
    """A package cannot be moved to another version; the message is a clause."""


class UnfinishedError(EsaError):
    """A command stopped because its time was up; called again, it goes on from there."""


class BrokenPromiseError(EsaError):
    """A gate missed a fault that it said it would find, or failed what is harmless; the command ends with status 1."""


class PerturbationError(EsaError):
    """Weights cannot be perturbed as asked: an unknown parameter, a place outside it, numbers that are not at hand."""


class RestorationError(EsaError):
    """A perturbed parameter is not what it was before; the model must not be used any more."""


class SweepError(EsaError):
    """The rows of a sweep cannot be kept, taken up again, or drawn."""


class GuardError(EsaError):
    """The model is not one whose baseline has passed its check; what is measured on it would mean nothing."""


class ClusterError(EsaError):
    """A cluster cannot be used, or could not judge a baseline."""


class AcceptanceError(GoldenError):
    """A run must not take the place of a golden."""


class LedgerError(EsaError):
    """The ledger of accepted goldens cannot be read."""


class EsaWarning(UserWarning):
    """Something a user should know that does not change the verdict."""


def sentence_of(error: EsaError | OSError) -> str:
    """What a user is told of an error: our own are sentences already, the operating system's are not."""
    if isinstance(error, EsaError):
        return str(error)
    cause = " ".join((error.strerror or str(error) or type(error).__name__).split()).rstrip(".")
    if error.filename is None:
        return (
            f"The system refused what it was asked for ({cause}); see to the disk's space, the memory and the network, "
            f"and call it again."
        )
    return (
        f"{error.filename} cannot be read or written ({cause}); name another place, or see to its permissions and to "
        f"the space on its disk."
    )
