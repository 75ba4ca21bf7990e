"""What a baseline asks of long contexts; apart from its texts, which need numpy, since every run reads it."""

from pydantic import model_validator

from esa_pytest.baselines.sources import DeviceType, Entry, PositiveInt

# Facts are planted in so many texts, each the control of the other.
NUM_TEXTS = 2
# What facts are about: every thing in every colour.
COLOURS = ("red", "blue", "green", "black", "white", "brown", "grey", "pink", "gold", "silver", "yellow", "purple")
THINGS = ("door", "box", "house", "book", "car", "tree", "boat", "bird", "stone", "table", "lamp", "bell")
MOST_FACTS = len(COLOURS) * len(THINGS)


class ContextPlan(Entry):
    """What is asked of long contexts.

    Attributes:
        longest: by device class, most tokens of a window, where the model has more positions.
        chunk_tokens: by device class, most tokens of a window that go through the model at once; those before them are
            in a cache of keys and values.
        slides: how many windows follow the first of a document, each half a context on.
        short_tokens: the context that a long one is compared with has more tokens than these, and at most twice as
            many.
        depths: in how many ranges of depth facts are planted.
        facts_a_depth: most facts of a range in one text; fewer where the window is short.
    """

    longest: dict[DeviceType, PositiveInt]
    chunk_tokens: dict[DeviceType, PositiveInt]
    slides: PositiveInt = 1
    short_tokens: PositiveInt = 256
    depths: PositiveInt = 5
    facts_a_depth: PositiveInt = 8

    @model_validator(mode="after")
    def _facts_differ(self) -> "ContextPlan":
        number = NUM_TEXTS * self.depths * self.facts_a_depth
        if number > MOST_FACTS:
            msg = f"{NUM_TEXTS} texts x {self.depths} depths x {self.facts_a_depth} facts are more than {MOST_FACTS}"
            raise ValueError(msg)
        return self
