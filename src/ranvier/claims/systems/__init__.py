"""One file a system: its published statements as experiments (`CLAIM`, or `CLAIMS` for several)."""
