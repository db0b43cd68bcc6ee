"""The live page and the JSON API beside it: one process that reads and submits, and does no work of a job."""
