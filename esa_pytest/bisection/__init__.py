"""WHICH PACKAGE DID IT: moves packages back to their golden's versions, one environment after another."""
