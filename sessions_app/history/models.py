"""The rows of the history."""

from __future__ import annotations

from django.db import models


class HistoryFigure(models.Model):
    """One figure for one minute, summed over all processes; for one hour, once it is more than a day old.

    ``buckets`` adds to it, folds minutes into hours and removes what is old. ``reading`` reads it.
    """

    minute = models.PositiveIntegerField(help_text="Its beginning, in minutes since 1970 in UTC.")
    minutes = models.PositiveSmallIntegerField(help_text="How long it is: 1 or 60.")
    name = models.CharField(max_length=32)
    value = models.BigIntegerField()

    class Meta:
        app_label = "sessions_app"
        default_permissions = ()
        constraints = (
            # The order in which it is read: a time of one kind of bucket, with all its figures.
            models.UniqueConstraint(fields=("minutes", "minute", "name"), name="history_figure_once_a_bucket"),
        )

    def __str__(self) -> str:
        return f"{self.name} at {self.minute}: {self.value}"
