"""What pages say of removed pictures, frozen readings, and readings that are deleted in the admin."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ocr import retention
from ocr.audit.recording import Actor
from ocr.freezing import freeze
from ocr.models import KtpExtraction, Tombstone
from tests.db.ktp_cards import FrozenMeanwhile, read_extraction
from tests.db.signing_in import signed_in
from tests.db.test_ktp_retention import aged

pytestmark = pytest.mark.django_db(transaction=True)

EVERYTHING = ("view_ktpextraction", "delete_ktpextraction", "review_ktp", "view_ktp_image", "change_ktpextraction")


@pytest.fixture
def staff() -> Client:
    return signed_in(*EVERYTHING)


def a_clerk() -> User:
    clerk = User.objects.create_user("clerk")
    clerk.user_permissions.set(Permission.objects.filter(codename="add_ktpextraction"))
    return clerk


def delete_selected(client: Client, *cards: KtpExtraction) -> str:
    form = {"action": "delete_selected", "_selected_action": [card.pk for card in cards], "post": "yes"}
    return client.post(reverse("admin:ocr_ktpextraction_changelist"), form, follow=True).content.decode()


class TestDeletingInTheAdmin:
    def test_one_is_erased_and_leaves_a_tombstone(self, sent: list[str], staff: Client) -> None:
        card = read_extraction()
        staff.post(reverse("admin:ocr_ktpextraction_delete", args=[card.pk]), {"post": "yes"})
        stone = Tombstone.objects.get(pk=card.pk)
        assert stone.why == "deleted"
        assert stone.by.startswith("user:user-view_ktpextraction")

    def test_so_are_many(self, sent: list[str], staff: Client) -> None:
        cards = [read_extraction() for _ in range(3)]
        assert "Successfully deleted 3" in delete_selected(staff, *cards)
        assert Tombstone.objects.filter(pk__in=[card.pk for card in cards]).count() == 3

    def test_a_frozen_one_is_named_and_nothing_is_deleted(self, sent: list[str], staff: Client) -> None:
        free, frozen = read_extraction(), read_extraction()
        freeze(frozen, "Case 12", by=Actor.of_server())
        page = delete_selected(staff, free, frozen)
        assert f"KTP {frozen.pk} is frozen (legal hold)" in page
        address = reverse("admin:ocr_ktpextraction_delete", args=[frozen.pk])
        assert "is frozen (legal hold)" in staff.post(address, {"post": "yes"}, follow=True).content.decode()
        assert KtpExtraction.objects.count() == 2

    def test_one_that_is_frozen_meanwhile_is_kept_and_named(
        self, sent: list[str], staff: Client, frozen_meanwhile: FrozenMeanwhile
    ) -> None:
        card = read_extraction()
        frozen_meanwhile(card)
        address = reverse("admin:ocr_ktpextraction_delete", args=[card.pk])
        page = staff.post(address, {"post": "yes"}, follow=True).content.decode()
        assert f"KTP {card.pk} is frozen (legal hold)" in page
        assert "was deleted successfully" not in page
        assert KtpExtraction.objects.filter(pk=card.pk).exists()
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize("others", [0, 1])
    def test_so_is_one_of_many(
        self, sent: list[str], staff: Client, frozen_meanwhile: FrozenMeanwhile, others: int
    ) -> None:
        cards = [read_extraction() for _ in range(others + 1)]
        frozen_meanwhile(cards[0])
        page = delete_selected(staff, *cards)
        assert f"KTP {cards[0].pk} is frozen (legal hold)" in page
        assert "Successfully deleted" not in page
        assert KtpExtraction.objects.get().pk == cards[0].pk
        assert {entry.object_id for entry in LogEntry.objects.all()} == {str(card.pk) for card in cards[1:]}


class TestARemovedPicture:
    def test_every_page_says_when_it_went(self, sent: list[str], staff: Client) -> None:
        clerk = a_clerk()
        card = aged(read_extraction(clerk), 31, submitted_at=timezone.now())
        retention.purge()
        by_clerk = Client()
        by_clerk.force_login(clerk)
        told = "The picture was removed 31 days after the upload."
        for client, address in (
            (by_clerk, reverse("ocr:result", args=[card.pk])),
            (staff, reverse("admin:ktp_review_card", args=[card.pk])),
            (staff, reverse("admin:ocr_ktpextraction_change", args=[card.pk])),
        ):
            page = client.get(address)
            assert told in page.content.decode()
            assert reverse("ocr:image", args=[card.pk]) not in page.content.decode()
        assert staff.get(reverse("ocr:image", args=[card.pk])).status_code == 404

    def test_the_card_cannot_be_read_again(self, sent: list[str]) -> None:
        clerk = a_clerk()
        card = aged(read_extraction(clerk), 1)
        card.image.delete()
        KtpExtraction.objects.filter(pk=card.pk).update(image_removed_at=timezone.now())
        client = Client()
        client.force_login(clerk)
        turn = reverse("ocr:turn", args=[card.pk])
        assert turn not in client.get(reverse("ocr:result", args=[card.pk])).content.decode()
        sent_anyway = client.post(turn, {"quarters": 0, "version": card.version})
        assert sent_anyway.status_code == 302
        card.refresh_from_db()
        assert card.state == "read"


def test_the_desk_says_that_a_card_is_frozen(sent: list[str], staff: Client) -> None:
    card = read_extraction()
    freeze(card, "Case 12", by=Actor.of_server())
    assert "Case 12" in staff.get(reverse("admin:ktp_review_card", args=[card.pk])).content.decode()


@pytest.mark.parametrize(
    ("permissions", "is_shown"), [((), False), (("view_ktpchange",), False), (("freeze_ktp",), True)]
)
def test_why_it_is_frozen_is_shown_to_who_may_freeze(
    sent: list[str], permissions: tuple[str, ...], is_shown: bool
) -> None:
    card = read_extraction()
    freeze(card, "Case 12", by=Actor.of_server())
    page = signed_in("view_ktpextraction", *permissions).get(reverse("admin:ocr_ktpextraction_change", args=[card.pk]))
    assert page.status_code == 200
    assert ("Case 12" in page.content.decode()) == is_shown
