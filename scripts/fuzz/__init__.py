"""Broken and hostile files for every reader of Ranvier: what is damaged, how, and what watches the readers."""
