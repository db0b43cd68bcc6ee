"""All SQL, a module a table; every function takes the caller's connection and never commits."""
