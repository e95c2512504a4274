"""A run watched from another process: its dashboard as a page of this machine's own, or as text in a terminal."""
