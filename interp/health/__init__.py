"""Is a run in training healthy? Rows of metrics.jsonl -> alerts in plain words."""
