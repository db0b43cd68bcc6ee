"""The quality bench: how well search finds, beside other ways to search."""
