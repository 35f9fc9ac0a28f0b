"""The reviewers' desk: the queue, the page of one card, and the accuracy page. Views of the admin's site."""
