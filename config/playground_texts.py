"""What the scripts of the playground say, in the reader's language. Values stand in it as ``%(name)s``."""

from __future__ import annotations

from django.utils.translation import gettext as _


def script_texts() -> dict[str, str]:
    """The texts by their names in the scripts."""
    return _messages() | _line() | _problems() | _announcements()


def _messages() -> dict[str, str]:
    return {
        "you": _("You"),
        "answer": _("Answer"),
        "yourMessage": _("Your message"),
        "edit": _("Edit"),
        "editRemoves": _("Everything after this message is removed."),
        "resend": _("Send again"),
        "cancel": _("Cancel"),
        "regenerate": _("Regenerate"),
        "copy": _("Copy"),
        "copied": _("Copied"),
        "notCopied": _("Select and copy it"),
        "viewCode": _("View code"),
        "thinking": _("Thinking…"),
        "thoughts": _("Thoughts"),
        "tokens": _("%(prompt)s + %(completion)s tokens"),
        "thoughtTokens": _("%(count)s of them thoughts"),
        "speed": _("%(speed)s tokens/s"),
        "stopped": _("Stopped"),
        "atLimit": _("Ended at the token limit"),
        "removeFile": _("Remove %(name)s"),
    }


def _line() -> dict[str, str]:
    """The state of the connection to a running answer. Event numbers count from 0."""
    return {
        "connected": _("Connected. Waiting for the first event."),
        "event": _("Connected. Event %(last)s"),
        "nothingYet": _("Nothing seen yet."),
        "lastSeen": _("Last seen: %(last)s."),
        "connecting": _("Connecting. %(last)s"),
        "lineCut": _("Line cut. %(last)s The server goes on. Reconnecting in %(seconds)s s."),
        "lineLost": _("No connection. %(last)s Trying again in %(seconds)s s."),
        "refusedForNow": _("The server says: %(message)s Trying again in %(seconds)s s."),
        "resumed_cut": _("Line cut: last seen %(last)s, resumed at %(next)s."),
        "resumed_lost": _("Connection lost: last seen %(last)s, resumed at %(next)s."),
        "resumed_reload": _("Page loaded again: last seen %(last)s, resumed at %(next)s."),
        "modelReady": _("ready"),
        "modelLoading": _("loading"),
        "serverAway": _("The server does not answer."),
    }


def _problems() -> dict[str, str]:
    return {
        "failed": _("The answer ended with an error:"),
        "wrongKey": _("The server does not take this key."),
        "wrongFile": _("%(name)s is neither a picture, nor a video, nor text."),
        "largeFile": _("%(name)s is too large: at most %(limit)s MiB."),
        "longText": _("%(name)s is too long for a message."),
        "manyImages": _("Too many pictures: at most %(limit)s."),
        "manyVideos": _("Too many videos: at most %(limit)s."),
        "largeRequest": _("Together they are too large: a request may have %(limit)s MiB."),
    }


def _announcements() -> dict[str, str]:
    """For screen readers."""
    return {
        "answerBegins": _("The answer begins."),
        "announce_done": _("The answer is complete."),
        "announce_cancelled": _("The answer was stopped."),
        "announce_failed": _("The answer ended with an error."),
        "announce_running": _("The answer goes on."),
    }
