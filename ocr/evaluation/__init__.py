"""How well cards are read: labelled pictures in, figures with intervals out. ``manage.py evaluate_ktp`` runs it."""
