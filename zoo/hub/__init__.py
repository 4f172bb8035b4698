"""The Hugging Face Hub: publish a model that others can trust, fetch one safely. Light until something is asked for.

`pull` fetches and checks, `push` publishes, `card` writes the model card; the modules import huggingface_hub inside
their functions, because it reads its environment (HF_ENDPOINT, HF_HOME, …) when it is imported.
"""
