"""Sign-off: a run and its comparison, as a page and an attestation."""
