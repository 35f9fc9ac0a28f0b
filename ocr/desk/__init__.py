"""The reviewers' desk: the queue, one card at a time, and how well the cards are read. Views of the admin's site."""
