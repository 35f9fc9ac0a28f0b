/* The live view of a session. The page shows how it stood when it was loaded; this lets it grow, and when the session
   has ended it takes the page's final form from the server. */
"use strict";

(() => {
    const FORBIDDEN = 4403;
    const NOT_FOUND = 4404;
    const EXPIRED = 4410;
    const FIRST_RETRY_MS = 500;
    const LAST_RETRY_MS = 10000;
    const REFUSALS_BEFORE_ASKING = 3;
    const FACTS_MS = 2000;
    /* the facts of a long session take the server longer, and are asked for less often */
    const SHARE_OF_TIME = 10;

    /* What the page says of itself, in the reader's language. */
    const TEXTS = JSON.parse(document.getElementById("session-texts").textContent);

    const byId = (id) => document.getElementById(id);

    function offerCopying() {
        const button = document.querySelector("[data-copy]");
        if (!button || !navigator.clipboard) {
            return;
        }
        button.hidden = false;
        button.addEventListener("click", async () => {
            await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
            button.textContent = TEXTS.copied;
        });
    }

    /* Replace the view by what the server says now, and keep what the reader has opened. */
    async function reload() {
        const response = await fetch(location.href, {credentials: "same-origin", cache: "no-store"});
        if (!response.ok || response.redirected) {
            location.reload();  // logged out, or the session is gone: the server says it better
            return;
        }
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("session-view");
        if (!fresh) {
            location.reload();
            return;
        }
        const reasoning = byId("session-reasoning-box");
        const freshReasoning = fresh.querySelector("#session-reasoning-box");
        if (reasoning && freshReasoning) {
            freshReasoning.open = reasoning.open;
        }
        byId("session-view").replaceWith(document.importNode(fresh, true));
        offerCopying();
    }

    /* A refused handshake says nothing of its reason; the page itself does. */
    async function leaveIfLoggedOut() {
        try {
            const response = await fetch(location.href, {credentials: "same-origin", cache: "no-store"});
            if (response.redirected || response.status === 403) {
                location.reload();
            }
        } catch {
            // The server does not answer: the next attempt checks again.
        }
    }

    function say(text) {
        byId("session-live-status").textContent = text;
    }

    function showState(state) {
        const badge = byId("session-state").firstElementChild;
        badge.className = `session-badge session-badge-${state}`;
        badge.textContent = TEXTS.states[state] || state;
    }

    /* What the server says of the session now. A part that did not change is kept, because the user may be reading it. */
    function showFacts(fresh) {
        for (const id of ["session-facts", "session-history", "session-pace"]) {
            const part = fresh.querySelector(`#${id}`);
            if (part && part.innerHTML !== byId(id).innerHTML) {
                byId(id).replaceChildren(...part.childNodes);
            }
        }
        const badge = fresh.querySelector("#session-badge").firstElementChild;
        byId("session-state").replaceChildren(badge);
    }

    /* The facts move without chunks too: a lease, a place in the queue, a cancel. Asked for as long as it is unfinished. */
    function followFacts(url, atEnd) {
        async function look() {
            const begun = performance.now();
            let isOver = false;
            try {
                const response = await fetch(url, {credentials: "same-origin", cache: "no-store"});
                if (response.ok && !response.redirected) {
                    const text = await response.text();
                    const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("session-live-part");
                    isOver = !["queued", "running"].includes(fresh.dataset.sessionState);
                    if (isOver) {
                        atEnd();
                    } else {
                        showFacts(fresh);
                    }
                } else {
                    await leaveIfLoggedOut();
                }
            } catch {
                // The server does not answer: the next request checks again.
            }
            if (!isOver && byId("session-live")) {
                setTimeout(look, Math.max(FACTS_MS, SHARE_OF_TIME * (performance.now() - begun)));
            }
        }
        setTimeout(look, FACTS_MS);
    }

    /* Model output is text and never markup. A box that is scrolled to its end stays there. */
    function append(box, text) {
        const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
        box.append(text);
        if (atEnd) {
            box.scrollTop = box.scrollHeight;
        }
    }

    function show(chunks) {
        const said = {reasoning: "", text: "", refusal: ""};
        for (const {delta} of chunks) {
            if (delta.choice) {
                continue;  // the second answer and the next are shown when the page is loaded
            }
            if (delta.type in said) {
                said[delta.type] += delta.text;
            }
        }
        for (const kind of ["reasoning", "refusal"]) {
            if (said[kind]) {
                byId(`session-${kind}-box`).hidden = false;
                append(byId(`session-${kind}`), said[kind]);
            }
        }
        if (said.text) {
            append(byId("session-answer"), said.text);
        }
    }

    function follow({path, after}) {
        let cursor = after;
        let retryMs = FIRST_RETRY_MS;
        let refusals = 0;

        function connect() {
            const scheme = location.protocol === "https:" ? "wss:" : "ws:";
            const socket = new WebSocket(`${scheme}//${location.host}${path}?after=${cursor}`);
            let isFinal = false;
            socket.onopen = () => {
                retryMs = FIRST_RETRY_MS;
                refusals = -1;
                say(TEXTS.live);
            };
            socket.onmessage = (event) => {
                const message = JSON.parse(event.data);
                if (message.chunks) {
                    // After a break the server starts at the cursor; what is here already is not shown twice.
                    const fresh = message.chunks.filter((chunk) => chunk.index > cursor);
                    show(fresh);
                    cursor = Math.max(cursor, ...fresh.map((chunk) => chunk.index));
                }
                if (message.state) {
                    showState(message.state);
                }
                isFinal = isFinal || Boolean(message.final);
            };
            socket.onclose = (event) => {
                if (isFinal || [NOT_FOUND, EXPIRED].includes(event.code)) {
                    reload().catch(() => say(TEXTS.ended));
                    return;
                }
                if (event.code === FORBIDDEN) {
                    location.reload();  // the log-in has ended, or the right: the server says which
                    return;
                }
                say(TEXTS.broken);
                refusals += 1;
                if (refusals % REFUSALS_BEFORE_ASKING === 0 && refusals > 0) {
                    leaveIfLoggedOut();
                }
                setTimeout(connect, retryMs);
                retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
            };
        }

        connect();
    }

    offerCopying();
    const live = byId("session-live");
    if (live) {
        for (const box of document.querySelectorAll(".session-scroll")) {
            box.scrollTop = box.scrollHeight;
        }
        const {facts, path, after} = JSON.parse(live.textContent);
        if (path) {
            follow({path, after});
        }
        // Where the chunks are followed, their end takes the page's last form from the server.
        followFacts(facts, path ? () => {} : () => reload().catch(() => say(TEXTS.ended)));
    }
})();
