"""The MCP shim: what agents ask of the head, over stdio and HTTP; it submits and reads, and never works itself."""
