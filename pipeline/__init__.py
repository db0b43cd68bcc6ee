"""What indexing is: the algorithms, the checkpoints and all SQL; it knows no broker, terminal or logger."""
