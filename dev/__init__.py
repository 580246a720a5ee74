"""What developers run: the whole service on one machine, and its demo."""
