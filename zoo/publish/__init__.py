"""Publishing: the model card of a run, and its push to the Hugging Face Hub."""
