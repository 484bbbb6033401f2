"""What runs in what order: values, state, context, strategies, routing and the compiled graphs."""
