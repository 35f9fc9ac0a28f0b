"""Which permissions the releases have given to the groups, so that none is given twice."""

from __future__ import annotations

from django.db import models

#: of an app's label, a dot and a codename
MAX_CHARS = 200


class GivenPermission(models.Model):
    """That the group was given this permission once. It may have lost it since."""

    group = models.ForeignKey("auth.Group", on_delete=models.CASCADE, related_name="+")
    permission = models.CharField(max_length=MAX_CHARS, help_text="The app's label, a dot, the codename.")

    class Meta:
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("group", "permission"), name="given_once"),)

    def __str__(self) -> str:
        return self.permission
