"""Small language models from scratch: the recipe of the embedded model."""
