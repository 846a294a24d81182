"""The product of hidden states with the whole item table, without ever holding tokens x catalog."""
