"""The requests of other import systems' clients, as their documentation shows them, answered as it says."""
