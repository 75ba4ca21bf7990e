"""Keep the progress bars and advice of transformers and datasets out of a test run, and give them back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Errors only, no progress bars."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Errors only, no progress bars."""
    import datasets

    logging = datasets.utils.logging
    verbosity, bars = logging.get_verbosity(), datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if not bars:
            datasets.enable_progress_bars()
