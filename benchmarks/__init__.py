"""Speed and memory, measured side by side with named peers or physical limits."""
