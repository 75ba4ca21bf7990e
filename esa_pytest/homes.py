"""Folders as users write them, from `~` on too. Light."""

from pathlib import Path

from esa_pytest.errors import SettingError


def expanded(text: str, *, origin: str) -> Path:
    """A path with the home folder that its `~` stands for.

    Args:
        text: as it was given.
        origin: where it was given.

    Raises:
        SettingError: nobody knows that home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        home = text.partition("/")[0]
        raise SettingError(
            f"{origin} is {text!r}, and no home folder is known for {home}; write the path from / on, or from the "
            f"rootdir on."
        ) from None
