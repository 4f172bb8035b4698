"""The Hugging Face Hub: `zoo.hub.pull.pull` fetches a model safely, `zoo.hub.pull` lists what there is.

The modules import huggingface_hub inside their functions, because it reads its environment (HF_ENDPOINT, HF_HOME, …)
when it is imported.
"""
