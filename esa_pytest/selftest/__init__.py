"""`esa selftest`: faults of known size in the user's own model, and what the gate says of each."""
