"""Whether a page fits its window, and a finger its buttons."""

from __future__ import annotations

from playwright.sync_api import Page

#: Lists of choices scroll by themselves, a region that takes the focus may, and some texts are hidden on purpose.
_CUT = """() => {
    const width = document.documentElement.clientWidth, found = [];
    const name = e => `${e.tagName.toLowerCase()}#${e.id}.${e.className.baseVal ?? e.className}`;
    const all = document.documentElement.scrollWidth;
    if (all > width) found.push(`the page is ${all} wide`);
    for (const e of document.querySelectorAll("body *")) {
        if (!e.checkVisibility() || e.closest("select, .selector, svg, [role=region][tabindex='0']")) continue;
        const style = getComputedStyle(e), box = e.getBoundingClientRect();
        if (style.clipPath !== "none" || style.textOverflow === "ellipsis" || box.width <= 2) continue;
        if (style.overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
            && !["INPUT", "TEXTAREA"].includes(e.tagName))
            found.push(`${name(e)} shows ${e.clientWidth} of ${e.scrollWidth}`);
        if (box.right > width + 1 && box.left < width) found.push(`${name(e)} ends at ${Math.round(box.right)}`);
    }
    return found;
}"""

#: Links among words need no room of their own, and a box with a label is pressed by the label.
_SMALL = """least => {
    const found = [];
    for (const e of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, textarea")) {
        const isBox = ["checkbox", "radio"].includes(e.type) && e.labels.length;
        const box = (isBox ? e.labels[0] : e).getBoundingClientRect(), style = getComputedStyle(e);
        if (!e.checkVisibility({visibilityProperty: true, opacityProperty: true}) || e.disabled) continue;
        if (style.clipPath !== "none" || box.right <= 0 || box.bottom <= 0) continue;
        if (style.display === "inline") continue;
        if (Math.min(box.width, box.height) < least)
            found.push(`${e.outerHTML.slice(0, 120)} is ${Math.round(box.width)} x ${Math.round(box.height)}`);
    }
    return found;
}"""


def cut_parts(page: Page) -> list[str]:
    """What is cut, scrolls sideways or lies outside the window."""
    found: list[str] = page.evaluate(_CUT)
    return found


def small_targets(page: Page, least: int) -> list[str]:
    """What is pressed and is smaller than so many pixels, across or down."""
    found: list[str] = page.evaluate(_SMALL, least)
    return found
