"""What happens next: series completion, routing, the worker, delivery."""
