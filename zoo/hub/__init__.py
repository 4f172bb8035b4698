"""The Hugging Face Hub; huggingface_hub is imported in functions, as it reads HF_ENDPOINT, HF_HOME, … when imported."""
