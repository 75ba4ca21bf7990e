"""WHAT PEOPLE SEE: text and files made of verdicts and records; returns them, never prints."""
