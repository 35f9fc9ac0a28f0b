"""What the site stores about its users besides their accounts."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class UserLanguage(models.Model):
    """The language that a user has chosen, for whatever browser they log in with."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="language"
    )
    code = models.CharField(_("language"), max_length=10, choices=settings.LANGUAGES)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user_id} reads {self.code}"
