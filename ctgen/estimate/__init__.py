"""What a recipe will cost: parameters, operations and memory, found by running it on tensors that have no data."""
