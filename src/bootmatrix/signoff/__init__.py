"""Sign-off: a run and how it stands beside a baseline, as a page and an attestation, with the digest of everything."""
