"""Everything needed to operate Penstock: settings, logs, the embedded server, the worker processes and the mouths."""
