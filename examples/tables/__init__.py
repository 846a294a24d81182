"""The paper's tables: which runs they are made of, running them, and the page that shows them."""
