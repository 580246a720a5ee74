"""What workers do: carry out batches (run_batch) and repair what was lost (sweep); queues names and sends the hints."""
