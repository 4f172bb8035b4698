"""Publishing: the model card of a run, and its push to the Hugging Face Hub. Light until something is asked for."""

from zoo.publish.card import License, card_of_run, render_card, write_card
from zoo.publish.push import Pushed, publish

__all__ = ["License", "Pushed", "card_of_run", "publish", "render_card", "write_card"]
