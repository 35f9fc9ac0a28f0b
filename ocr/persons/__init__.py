"""The rights of cards' holders: find, export, erase and freeze everything that is held about a person."""
