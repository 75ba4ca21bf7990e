"""WHAT IS KEPT: the golden's schema and files, the environment's fingerprint, the assembly of a record."""
