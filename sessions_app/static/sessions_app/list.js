/* The list of sessions: what unfinished ones have said, wait for or have become is read again while the page is seen. */
"use strict";

(() => {
    const LOOK_MS = 5000;
    /* a list that takes the server longer is asked for less often */
    const SHARE_OF_TIME = 10;
    const COLUMNS = ["state_and_why", "tokens", "speed", "first_token", "created"];
    const UNFINISHED = ".session-badge-queued, .session-badge-running, .session-badge-cancelling";

    const rowsOf = (page) =>
        new Map([...page.querySelectorAll("#result_list tbody tr")].map((row) => [row.querySelector(".session-id").title, row]));

    function show(fresh) {
        const rows = rowsOf(document);
        for (const [id, row] of rowsOf(fresh)) {
            const shown = rows.get(id);
            if (!shown || !shown.querySelector(UNFINISHED)) {
                continue;  // new ones come when the page is loaded again: rows do not move under a reader's hand
            }
            for (const column of COLUMNS) {
                shown.querySelector(`.field-${column}`).replaceChildren(...row.querySelector(`.field-${column}`).childNodes);
            }
        }
    }

    async function look() {
        const begun = performance.now();
        if (!document.hidden) {
            try {
                const response = await fetch(location.href, {credentials: "same-origin", cache: "no-store"});
                if (response.ok && !response.redirected) {
                    show(new DOMParser().parseFromString(await response.text(), "text/html"));
                }
            } catch {
                // The server does not answer: the next request checks again.
            }
        }
        plan(Math.max(LOOK_MS, SHARE_OF_TIME * (performance.now() - begun)));
    }

    function plan(milliseconds) {
        if (document.querySelector(`#result_list :is(${UNFINISHED})`)) {
            setTimeout(look, milliseconds);
        }
    }

    plan(LOOK_MS);
})();
