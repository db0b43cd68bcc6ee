"""One checkpointed function a stage: read, compute, then one short transaction that commits it all."""
