"""Sign-off: a run and its comparison with a baseline as a page and an attestation."""
