"""What goes between seqaug and other people's training code. Nothing here imports a framework: adapters fit by shape."""

from seqaug.integrations.view import next_item_view

__all__ = ["next_item_view"]
