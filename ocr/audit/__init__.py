"""The audit log: who did what with which card, when, from where and what for. It holds no card data."""
