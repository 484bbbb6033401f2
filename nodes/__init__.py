"""What each step of the search does, one file a step, and the prompt templates the steps fill."""
