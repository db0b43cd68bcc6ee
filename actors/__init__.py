"""Who runs the pipeline: the only storey that knows Dramatiq."""
