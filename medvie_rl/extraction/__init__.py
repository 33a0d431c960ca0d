"""From documents to JSON with a policy: what is read, asked, voted on, checked, calibrated and written."""
